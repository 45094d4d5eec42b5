import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.image.encoder import MEAN, SPREAD, ImageEncoder


def pixels(count=2, side=24):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.manual_seed(1))


def test_patch_embedding_is_a_strided_convolution():
    encoder = ImageEncoder(24, 8, 16, 1, 4)
    conv = nn.Conv2d(3, 16, 8, stride=8)
    conv.weight.data = encoder.patch_embedding.weight.data.view(16, 3, 8, 8)
    conv.bias.data = encoder.patch_embedding.bias.data
    x = pixels()
    normed = (x / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(SPREAD).view(3, 1, 1)
    expected = conv(normed).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder.patch_embedding(encoder.patches(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_pictures_do_not_see_one_another_and_positions_count(pool):
    torch.manual_seed(0)
    encoder, x = ImageEncoder(24, 8, 16, 2, 4, pool=pool), pixels(3)
    together = encoder.pooled({"pixels": x})
    assert together.shape == (3, 16)
    for one, row in zip(x, together, strict=True):
        torch.testing.assert_close(encoder.pooled({"pixels": one[None]})[0], row)
    moved = torch.cat((x[..., 8:], x[..., :8]), -1)  # the same patches in other places
    assert not torch.allclose(encoder.pooled({"pixels": moved}), together, atol=1e-4)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="patch_size=7 does not divide image_size=24"):
        ImageEncoder(24, 7, 16, 1, 4)
    with pytest.raises(InputError, match="do not fit image_size=24"):
        ImageEncoder(24, 8, 16, 1, 4)({"pixels": pixels(side=32)})
    for settings, message in (
        ({"pool": "first", "class_token": False}, "takes the class token"),
        ({"norm": "post", "pooled_norm": True}, "norm=post has none of"),
        ({"mean": [0.5, 0.5]}, "need three colours"),
        ({"trunk": {"activaton": "gelu"}}, "unknown key 'trunk.activaton'"),
    ):
        with pytest.raises(InputError, match=message):
            ImageEncoder(24, 8, 16, 1, 4, **settings)


def test_mean_leaves_the_class_token_out():
    encoder, x = ImageEncoder(24, 8, 16, 2, 4, class_token=True), {"pixels": pixels(3)}
    tokens = encoder(x).tokens.view(3, 10, 16)
    torch.testing.assert_close(encoder.pooled(x), tokens[:, 1:].mean(1))


@pytest.mark.parametrize("pooled_norm", [False, True])
def test_another_pool_is_what_an_encoder_with_that_pool_gives(pooled_norm):
    torch.manual_seed(0)
    x = {"pixels": pixels(3)}
    encoders = {
        pool: ImageEncoder(24, 8, 16, 2, 4, pool=pool, class_token=True, pooled_norm=pooled_norm)
        for pool in ("first", "mean", "max")
    }
    weights = encoders["first"].state_dict()
    for pool, encoder in encoders.items():
        encoder.load_state_dict(weights)
        torch.testing.assert_close(encoders["first"].pooled(x, pool), encoder.pooled(x))


def test_norm_of_the_pooled_vector_is_the_trunks_for_a_class_token():
    torch.manual_seed(0)
    plain = ImageEncoder(24, 8, 16, 2, 4, pool="first", trunk={"norm_eps": 1e-3})
    pooled = ImageEncoder(24, 8, 16, 2, 4, pool="first", pooled_norm=True, trunk={"norm_eps": 1e-3})
    pooled.load_state_dict(
        {name.replace("trunk.norm.", "pooled_norm."): value for name, value in plain.state_dict().items()}
    )
    x = {"pixels": pixels(3)}
    torch.testing.assert_close(pooled.pooled(x), plain.pooled(x))
    assert not torch.allclose(pooled(x).tokens, plain(x).tokens)


def test_stem_makes_positions_of_convolutions():
    torch.manual_seed(0)
    encoder, x = ImageEncoder(24, 8, 16, 2, 4, stem=[4, 6, 8]), pixels(3)
    together = encoder.pooled({"pixels": x})
    assert encoder.places(x).shape == (3, 9, 16)
    for one, row in zip(x, together, strict=True):  # its norms are a picture's own
        torch.testing.assert_close(encoder.pooled({"pixels": one[None]})[0], row, rtol=1e-4, atol=1e-5)
    changed = x.clone()
    changed[:, :, 16:, 16:] = 0
    before, after = encoder.stem.convs[0](x.float()), encoder.stem.convs[0](changed.float())
    assert torch.equal(before[:, :, :8, :8], after[:, :, :8, :8])  # positions are in the order of rows
    assert not torch.equal(before[:, :, 8:, 8:], after[:, :, 8:, 8:])
    together.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"stem": [4, 8]}, "give patch_size=4"), ({"stem": [4, 6, 8], "patch_bias": False}, "patch_bias=false")],
)
def test_stem_that_does_not_fit_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        ImageEncoder(24, 8, 16, 1, 4, **settings)
