import pytest
import torch

from modalities.image.encoder import ImageEncoder
from pretrain.embedding.extract import Extractor

PICTURES = {"pixels": torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=torch.manual_seed(1))}


@pytest.fixture
def encoder():
    """CLIP's tower: its norm is of the pooled vector."""
    torch.manual_seed(0)
    found = ImageEncoder(24, 8, 16, 2, 4, pool="first", pooled_norm=True)
    found.pooled_norm.weight.data.mul_(3)
    found.add_projection(8)
    return found


def test_an_encoder_is_pooled_by_its_own_rules_also_in_another_way(encoder):
    own = Extractor(encoder)(PICTURES)
    assert own.shape == (3, 8)
    torch.testing.assert_close(Extractor(encoder, "first")(PICTURES), own)
    with torch.no_grad():
        patches = encoder(PICTURES).tokens.view(3, 10, 16)[:, 1:]
        expected = encoder.pooled_norm(patches.mean(1))
    torch.testing.assert_close(Extractor(encoder, "mean", "none")(PICTURES), expected)


@pytest.mark.parametrize("pool", ["own", "first"])
def test_a_layer_is_without_the_norm_behind_the_last(encoder, pool):
    with torch.no_grad():
        states = encoder(PICTURES).tokens.view(3, 10, 16)[:, 0]
    torch.testing.assert_close(Extractor(encoder, pool, layer=2)(PICTURES), states)
