import numpy as np
import pytest
import torch

from data.errors import InputError
from modalities.image.changes import CHANGES


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 24, 32), dtype=np.uint8))


ARGUMENTS = {"brightness": {"factor": 0.5}}


@pytest.mark.parametrize("name", CHANGES)
def test_a_picture_stays_one_of_its_size_and_becomes_another(pixels, name):
    before = pixels.clone()
    change = CHANGES[name](**ARGUMENTS.get(name, {}))
    found = change(pixels, np.random.default_rng(0))
    assert found.shape == pixels.shape
    assert found.dtype == torch.uint8
    assert not torch.equal(found, pixels)
    assert torch.equal(pixels, before)
    assert torch.equal(change(pixels, np.random.default_rng(0)), found)


def test_each_is_what_it_says(pixels):
    rng = np.random.default_rng(0)
    assert torch.equal(CHANGES["flip"]()(CHANGES["flip"]()(pixels, rng), rng), pixels)
    assert torch.equal(CHANGES["brightness"](0.5)(pixels, rng), pixels // 2)
    grey = CHANGES["grey"]()(pixels, rng)
    assert torch.equal(grey[0], grey[2])
    assert CHANGES["grey"]()(grey, rng) is None
    tiles = CHANGES["shuffle_tiles"](4)(pixels, rng)
    assert torch.equal(tiles.flatten(1).sort(1).values, pixels.flatten(1).sort(1).values)
    corner = CHANGES["shuffle_tiles"](4)(pixels, rng)[:, :6, :8]
    known = [pixels[:, y : y + 6, x : x + 8] for y in range(0, 24, 6) for x in range(0, 32, 8)]
    assert sum(torch.equal(corner, tile) for tile in known) == 1
    assert CHANGES["shuffle_tiles"](40)(pixels, rng) is None
    smooth = torch.full((3, 24, 32), 77, dtype=torch.uint8)
    for name in ("blur", "crop"):
        assert torch.equal(CHANGES[name]()(smooth, rng), smooth)
    worse, better = (CHANGES["jpeg"](quality)(pixels, rng).float() for quality in (10, 90))
    assert (better - pixels.float()).abs().mean() < (worse - pixels.float()).abs().mean()
    noisy = CHANGES["noise"](10)(smooth, rng).float()
    assert 9 < noisy.std() < 11


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("brightness", {"factor": 0}), ("crop", {"share": 1}), ("jpeg", {"quality": 0}), ("blur", {"sigma": 0}),
     ("noise", {"std": -1}), ("shuffle_tiles", {"tiles": 1})],
)  # fmt: skip
def test_wrong_arguments_are_named(name, arguments):
    (key,) = arguments
    with pytest.raises(InputError, match=f"^{key}={arguments[key]}"):
        CHANGES[name](**arguments)
