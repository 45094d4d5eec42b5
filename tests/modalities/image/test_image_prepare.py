import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.image.prepare import ImagePrepare, crop
from pretrain.build import make


def encoded(array, mode=None, extension="png", **options):
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, extension.upper(), **options)
    return file.getvalue()


def gradient(height=30, width=40):
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)


def sample(raw, extension="png"):
    return Sample("s.tar", "k", {extension: raw})


def bomb(width, height):
    """A PNG whose header alone is true."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10**5, 10**5)])
def test_bomb_is_refused_from_its_header(width, height):
    with pytest.raises(SampleError, match=r"exceeds max_pixels=64000000|decompression bomb"):
        ImagePrepare(16).decode(bomb(width, height))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no picture",
        encoded(gradient())[:-200],
        bomb(40, 40),
        b"P6 2 2 255\n" + bytes(12),  # a picture, of a format that is not taken
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",  # Pillow would run Ghostscript on it
    ],
)
def test_what_cannot_be_decoded_is_the_samples_fault(raw):
    with pytest.raises(SampleError, match=r"undecodable picture|not a picture of a known kind"):
        ImagePrepare(16)(sample(raw), generator(0), True)


@pytest.mark.parametrize("extension", ["png", "jpeg", "webp"])
def test_damage_anywhere_is_the_samples_fault_or_harmless(extension):
    raw, rng, prepare = encoded(gradient(), extension=extension), np.random.default_rng(0), ImagePrepare(16)
    prepare.decode(raw)
    failures = 0
    for _ in range(150):
        damaged = bytearray(raw)
        damaged[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        try:
            found = prepare.decode(bytes(damaged))
            assert found.shape[0] == 3
        except SampleError:
            failures += 1
    assert failures > 0


def test_every_kind_of_picture_becomes_three_channels_of_the_same_brightness():
    rgb = gradient()
    grey16 = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    grey8 = (grey16 / 257).round().astype(np.uint8)
    prepare = ImagePrepare(40)
    plain = prepare.decode(encoded(rgb)).float()
    cases = {
        "grey": (encoded(grey8), torch.from_numpy(grey8).expand(3, -1, -1).float()),
        "grey 16 bit": (encoded(grey16), torch.from_numpy(grey8).expand(3, -1, -1).float()),
        "alpha": (encoded(rgb, "RGBA"), plain),
        "cmyk": (encoded(rgb, "CMYK", "jpeg", quality=95), plain),
        "jpeg": (encoded(rgb, None, "jpeg", quality=95), plain),
        "palette": (encoded(rgb, "P"), plain),
    }
    for name, (raw, expected) in cases.items():
        found = prepare.decode(raw)
        assert found.dtype == torch.uint8, name
        assert found.shape == (3, 30, 40), name
        assert (found.float() - expected).abs().mean() < (40 if name == "palette" else 12), name
    assert prepare.decode(encoded(rgb[:, :, 0] > 127)).unique().tolist() == [0, 255]  # one bit a pixel


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "RGB"])
def test_what_is_transparent_is_white(mode):
    """A black stroke on nothing, whose hidden colour is black or red."""
    image = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    buffer = io.BytesIO()
    if mode == "RGB":
        image.convert("RGB").save(buffer, "png", transparency=(255, 0, 0))
    else:
        image.convert(mode).save(buffer, "png")
    pixels = ImagePrepare(20).decode(buffer.getvalue())
    assert (pixels[:, :, :10] == 0).all()
    assert (pixels[:, :, 10:] == 255).all()


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


def photograph(height, width, extension="jpeg", seed=0, **options):
    """Clouds at every scale, as in photographs, and edges."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2
    frequency[0, 0] = np.inf
    found = []
    for _ in range(3):
        noise = rng.standard_normal((2, *frequency.shape)) / np.sqrt(frequency)
        clouds = np.fft.irfft2(noise[0] + 1j * noise[1], (height, width))
        found.append(128 + 40 * clouds / clouds.std())
    array = np.stack(found, -1)
    array[height // 3 : height // 2, width // 4 : width // 2] += 60
    return encoded(array.clip(0, 255).astype(np.uint8), None, extension, **options)


def whole(raw):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(raw)).convert("RGB"))).permute(2, 0, 1)


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


@pytest.mark.parametrize("options", [{"subsampling": n} for n in range(3)] + [{"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_both_jpeg_decoders_give_the_same_and_refuse_the_same(monkeypatch, mode, options):
    raw = encoded(whole(photograph(75, 101)).permute(1, 2, 0).numpy(), mode, "jpeg", **options)
    fast = ImagePrepare(64).decode(raw)
    for cut in (300, len(raw) // 2, len(raw) - 2):
        with pytest.raises(SampleError, match=r"^undecodable picture: Image is incomplete or truncated$"):
            ImagePrepare(64).decode(raw[:cut] if cut > 1000 else raw[: len(raw) - cut])
    monkeypatch.setattr("modalities.image.prepare.FAST_JPEG", False)
    assert torch.equal(ImagePrepare(64).decode(raw), fast)


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


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5)])
def test_shares_of_the_area_are_checked(scale):
    with pytest.raises(InputError, match="scale="):
        ImagePrepare(16, scale=scale)


@pytest.mark.parametrize("extension", ["jpeg", "png", "webp", "gif", "bmp"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "1"])
def test_decodes_each_format(extension, mode):
    try:
        raw = encoded(gradient(), mode, extension)
    except (OSError, ValueError):
        pytest.skip(f"{extension} has no {mode}")
    pixels = ImagePrepare(16)(sample(raw, "png"), generator(0), True)["pixels"]
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == torch.uint8


def kind_of(prepare, found):
    with pytest.raises(SampleError) as error:
        prepare(found, generator(0), True)
    return error.value.kind, error.value.member


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_kinds_and_members_are_named():
    prepare = ImagePrepare(16, max_pixels=5000, min_side=8, max_bytes=20_000)
    assert kind_of(prepare, Sample("s", "k", {"txt": b""})) == ("missing", "jpg|jpeg|png|webp")
    assert kind_of(prepare, sample(bomb(10**5, 10**5))) == ("bomb", "png")
    assert kind_of(prepare, sample(bomb(100, 51))) == ("bomb", "png")
    assert kind_of(prepare, sample(encoded(gradient(7, 40)), "jpg")) == ("too_short", "jpg")
    assert kind_of(prepare, sample(b"x" * 20_001, "webp")) == ("too_large", "webp")
    assert kind_of(prepare, sample(b"no picture", "webp")) == ("undecodable", "webp")
    assert kind_of(prepare, sample(encoded(gradient())[:100])) == ("undecodable", "png")


def test_damaged_bytes_are_a_picture_or_a_bad_sample():
    rng = np.random.default_rng(0)
    prepare = ImagePrepare(16, max_pixels=10**6)
    found = set()
    for extension in ("jpeg", "png", "webp", "gif", "bmp"):
        whole = encoded(gradient(), "P" if extension == "gif" else None, extension)
        for _ in range(100):
            raw = bytearray(whole)
            for place in rng.integers(len(raw) if rng.random() < 0.5 else 60, size=rng.integers(1, 6)):
                raw[place] = rng.integers(256)
            raw = raw[: rng.integers(len(raw))] if rng.random() < 0.3 else raw
            try:
                prepare(sample(bytes(raw)), generator(0), True)
                found.add("sound")
            except SampleError as error:
                found.add(error.kind)
    assert {"sound", "undecodable", "bomb"} <= found


def test_further_transforms_are_the_samples_own():
    jitter = v2.ColorJitter(brightness=0.8, hue=0.4)
    prepare, plain = ImagePrepare(16, transforms=[jitter, v2.RandomGrayscale(0.5)]), ImagePrepare(16)
    raw = sample(encoded(gradient()))
    first, again, other = (prepare(raw, generator(seed), True)["pixels"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain(raw, generator(1), True)["pixels"])
    assert torch.equal(*(p(raw, generator(1), False)["pixels"] for p in (prepare, plain)))
    assert ImagePrepare(16, transforms=[v2.RandAugment()])(raw, generator(3), True)["pixels"].dtype == torch.uint8


def test_transforms_come_from_a_config_and_keep_uint8():
    node = {
        "_target_": "modalities.image.prepare.ImagePrepare",
        "image_size": 16,
        "transforms": [{"_target_": "torchvision.transforms.v2.GaussianBlur", "kernel_size": 3}],
    }
    assert isinstance(make(node, "prepare").transforms[0], v2.GaussianBlur)
    node["transforms"] = [{"_target_": "torchvision.transforms.v2.ToDtype", "dtype": "float32"}]
    with pytest.raises(InputError, match=r"prepare"):
        make(node, "prepare")
    with pytest.raises(InputError, match=r"CenterCrop makes \(3, 8, 8\) torch.uint8 .* must stay \(3, 16, 16\) uint8"):
        ImagePrepare(16, transforms=[v2.CenterCrop(8)])
