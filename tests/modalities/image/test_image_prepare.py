import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.image.prepare import ImagePrepare


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


@pytest.mark.parametrize(("scale", "least"), [((0.9, 1.0), 128), ((0.25, 1.0), 128), ((0.02, 1.0), 522)])
def test_a_jpeg_is_decoded_large_enough_for_the_smallest_crop(scale, least):
    raw = encoded(gradient(1024, 1280), extension="jpeg")
    short = min(ImagePrepare(64, scale=scale).decode(raw).shape[1:])
    assert least <= short <= 1024
    assert short < 1024 or least > 512


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5)])
def test_shares_of_the_area_are_checked(scale):
    with pytest.raises(InputError, match="scale="):
        ImagePrepare(16, scale=scale)
