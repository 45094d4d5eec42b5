"""Which part of a picture is taken, and its pixels."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from data.errors import InputError
from data.seeds import generator
from modalities.image.prepare import ImagePrepare, crop
from tests.modalities.image.pictures import encoded, gradient, photograph, sample, whole


def test_crops_are_a_function_of_the_generator_and_held_out_pictures_have_none():
    prepare, one = ImagePrepare(16, scale=(0.3, 1.0), flip=0.5), sample(encoded(gradient()))
    crops = [prepare(one, generator(n), True)["pixels"] for n in (1, 1, 2)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert torch.equal(prepare(one, generator(1), False)["pixels"], prepare(one, generator(2), False)["pixels"])
    assert prepare.collate([prepare(one, generator(n), True) for n in range(3)])["pixels"].shape == (3, 3, 16, 16)


def test_mirroring_happens_as_often_as_it_says():
    one = sample(encoded(gradient(16, 16)))
    plain = ImagePrepare(16, scale=(1.0, 1.0), flip=0.0)
    mirrored = ImagePrepare(16, scale=(1.0, 1.0), flip=0.25)
    flips = 0
    for n in range(400):
        a, b = plain(one, generator(n), True)["pixels"], mirrored(one, generator(n), True)["pixels"]
        flips += not torch.equal(a, b)
        assert torch.equal(a, b) or torch.equal(a.flip(-1), b)
    assert abs(flips / 400 - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5


@pytest.mark.parametrize("side", [16, 64, 97])
def test_a_jpeg_is_decoded_large_enough_for_its_crop_and_hardly_larger(side):
    raw, prepare = photograph(1024, 1280), ImagePrepare(side)
    for box in [(0, 0, 1280, 1024), (100, 200, 400, 480), (1279 - 200, 1023 - 160, 1279, 1023), (3, 5, 103, 105)]:
        across, down = box[2] - box[0], box[3] - box[1]
        found = prepare.decode(raw, choose=lambda *_: box)  # noqa: B023 - called at once
        shrink = round(across / found.shape[2])
        assert shrink in (1, 2, 4, 8)
        assert abs(found.shape[2] - across / shrink) <= 1
        assert abs(found.shape[1] - down / shrink) <= 1
        assert shrink == 1 or min(found.shape[1:]) >= 1.4 * side
        assert shrink == 8 or min(across, down) / (2 * shrink) < 1.5 * side


def by_torchvision(full, box, side):
    """The crop at full scale; on the grid of the scale at which a JPEG of this size is decoded."""
    left, top, right, bottom = box
    if min(right - left, bottom - top) >= 3 * side:
        shrink = max(n for n in (2, 4, 8) if min(right - left, bottom - top) >= 1.5 * n * side)
        left, top, right, bottom = (round(edge / shrink) * shrink for edge in box)
    return functional.resized_crop(full, top, left, bottom - top, right - left, [side, side], antialias=True).float()


@pytest.mark.parametrize(
    ("height", "width", "extension", "side", "most"),
    [
        *((40, 30, "jpeg", 48, 0.1), (120, 130, "jpeg", 48, 0.1)),
        *((333, 257, "png", 200, 0.1), (333, 257, "webp", 200, 0.1), (333, 257, "bmp", 200, 0.1)),
        *((700, 500, "jpeg", 48, 1.5), (1501, 1399, "jpeg", 48, 1.5), (1400, 1501, "jpeg", 200, 1.5)),
    ],
)
def test_pixels_are_those_of_torchvision(height, width, extension, side, most):
    raw = photograph(height, width, extension)
    prepare, full = ImagePrepare(side, scale=(0.3, 1.0)), whole(raw)
    square = min(height, width)
    left, top = (width - square) // 2, (height - square) // 2
    cases = [(None, (left, top, left + square, top + square))]
    cases += [(n, crop(width, height, prepare.scale, generator(n))) for n in range(10)]
    for seed, box in cases:
        found = prepare(sample(raw), generator(seed or 0), seed is not None)["pixels"]
        expected = by_torchvision(full, box, side)
        assert found.is_contiguous()
        assert (found.float() - expected).abs().mean() < most
        assert (found.float().mean((1, 2)) - expected.mean((1, 2))).abs().max() < 0.3
        assert abs(found.float().std() / expected.std() - 1) < 0.02


def boxes(height, width, scale, count):
    found = np.array([crop(width, height, scale, generator(n)) for n in range(count)])
    return found[:, 0], found[:, 1], found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.08, 1.0), (0.25, 0.5)])
@pytest.mark.parametrize(("height", "width"), [(300, 300), (300, 450), (500, 200)])
def test_crops_are_distributed_as_those_of_torchvision(height, width, scale):
    reference, count = v2.RandomResizedCrop(8, scale=scale), 2000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [reference.make_params([torch.empty(3, height, width)]) for _ in range(count)]
    expected = [np.array([one[name] for one in drawn]) for name in ("left", "top", "width", "height")]
    for ours, theirs in zip(boxes(height, width, scale, count), expected, strict=True):
        assert ours.min() >= 0
        every = np.unique(np.concatenate((ours, theirs)))
        shares = [np.searchsorted(np.sort(of), every, "right") / count for of in (ours, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 1.95 * (2 / count) ** 0.5  # Kolmogorov, Smirnov: one in a thousand


def test_crops_cover_the_picture_evenly():
    seen, height, width = np.zeros((60, 80)), 60, 80
    left, top, across, down = boxes(height, width, (0.05, 0.1), 4000)
    assert (left + across).max() == width
    assert (top + down).max() == height
    for x, y, w, h in zip(left, top, across, down, strict=True):
        seen[y : y + h, x : x + w] += 1
    middle = seen[20:40, 27:53]
    assert middle.std() / middle.mean() < 0.1
    assert abs(seen[:, :40].sum() / seen.sum() - 0.5) < 0.02
    assert abs(seen[:30].sum() / seen.sum() - 0.5) < 0.02
    assert seen.reshape(20, 3, 20, 4).sum((1, 3)).min() > 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 900), (900, 1), (40, 90), (90, 40), (30, 30), (30, 40)])
def test_where_no_crop_fits_it_is_torchvisions_middle(height, width):
    reference = v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.75, 4 / 3))
    reference._log_ratio = torch.log(torch.tensor((3.0, 3.0)))  # every try fails
    expected = reference.make_params([torch.empty(3, height, width)])
    if (height, width) == (30, 40):
        assert crop(width, height, (1.0, 1.0), generator(0)) == (0, 0, 40, 30)
        return
    found = {crop(width, height, (1.0, 1.0), generator(n)) for n in range(20)}
    left, top = expected["left"], expected["top"]
    assert (left, top, left + expected["width"], top + expected["height"]) in found


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5), 0.5, [0.5], "0.5,1"])
def test_shares_of_the_area_are_checked(scale):
    with pytest.raises(InputError, match="scale="):
        ImagePrepare(16, scale=scale)


@pytest.mark.parametrize("flip", [-0.1, 2, True, "yes"])
def test_the_share_of_mirrored_pictures_is_checked(flip):
    with pytest.raises(InputError, match=rf"flip={flip!r} is no probability"):
        ImagePrepare(16, flip=flip)
