import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.image.plugin import ImagePlugin

D = 32
PICTURES = {"pixels": torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)}


class Convolution(nn.Module):
    """A map of features, channels first or last."""

    def __init__(self, last=False):
        super().__init__()
        self.layer, self.last = nn.Conv2d(3, D, 4, 4), last

    def forward(self, pixels):
        found = self.layer(pixels)
        return found.permute(0, 2, 3, 1) if self.last else found


def test_timm():
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": D, "depth": 1, "num_heads": 2, "num_classes": 0}
    module = timm.create_model("vit_tiny_patch16_224", **sizes)
    encoder = ImagePlugin(module, 16, D, "first", mean=[0.5] * 3, spread=[0.5] * 3, method="forward_features").eval()
    found = encoder(PICTURES)
    assert found.layout.lengths == [17] * 3
    # The class token of forward_features is what timm's own pooling takes.
    expected = module(PICTURES["pixels"] / 127.5 - 1)
    torch.testing.assert_close(encoder.pooled(PICTURES), expected, rtol=1e-4, atol=1e-5)
    whole = ImagePlugin(module, 16, D, mean=[0.5] * 3, spread=[0.5] * 3).eval()
    torch.testing.assert_close(whole.pooled(PICTURES), expected, rtol=1e-4, atol=1e-5)


def test_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4
    )
    encoder = ImagePlugin(transformers.ViTModel(config, add_pooling_layer=False), 16, D, "first", pixels="pixel_values")
    assert encoder(PICTURES).tokens.shape == (3 * 17, D)


@pytest.mark.parametrize("last", [False, True])
def test_a_map_of_features_row_by_row(last):
    torch.manual_seed(0)
    module = Convolution(last)
    encoder = ImagePlugin(module, 16, D)
    found = encoder(PICTURES)
    assert found.layout.lengths == [16] * 3
    x = (PICTURES["pixels"] - encoder.mean) / encoder.spread
    torch.testing.assert_close(found.tokens[16 + 4 * 1 + 2], module.layer(x)[1, :, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 8}, r"Convolution gives features of shape \(1, 128, 4\) for 1 sequences"),
        ({"pixels": "x"}, r"cannot be called as the adapter does: .*unexpected keyword argument 'x'"),
        ({"image_size": 2}, "cannot be called as the adapter does: .*[Kk]ernel size"),
        ({"spread": [1, 1]}, "need three colours"),
    ],
)
def test_what_does_not_fit_is_said_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        ImagePlugin(**{"module": Convolution(), "image_size": 16, "width": D, **arguments})


def test_pictures_of_another_size():
    with pytest.raises(InputError, match=r"pictures of \(8, 8\) pixels do not fit image_size=16"):
        ImagePlugin(Convolution(), 16, D)({"pixels": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)})
