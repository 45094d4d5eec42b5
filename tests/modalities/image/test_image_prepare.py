import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from data.errors import InputError, SampleError
from data.loading.loader import StepLoader, TaskData
from data.loading.making import prepare_at
from data.loading.room import making
from data.sample import Sample
from data.seeds import generator
from data.stream import Stream
from data.write import write
from modalities.image.prepare import ImagePrepare
from pretrain.build import make
from tests.modalities.image.pictures import encoded, gradient, photograph, sample, whole


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


def test_a_loader_stacks_where_it_hands_on():
    memory = np.zeros(8192, np.uint8)
    prepare = ImagePrepare(16)
    items = [prepare(sample(encoded(gradient(30 + n))), generator(n), True) for n in range(3)]
    plain = prepare.collate(items)["pixels"]
    with making(lambda size: memory[:size]):
        first, second = (prepare.collate(part)["pixels"] for part in (items, items[:1]))
    assert torch.equal(first, plain)
    assert torch.equal(second, plain[:1])  # another of the same micro-batch, which leaves the first as it is
    assert [np.shares_memory(part.numpy(), memory) for part in (first, second, plain)] == [True, True, False]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_number_of_workers_hands_on_the_same(tmp_path, workers):
    rows = [(f"{n:05d}", {"png": encoded(gradient(30 + n))}) for n in range(20)]
    write(rows, tmp_path / "shards", "pictures", 10**6)
    task = TaskData(Stream("task", str(tmp_path / "shards"), seed=0), ImagePrepare(16), 4)
    units = [prepare_at(task, range(begin, begin + 4), True).batch["pixels"] for begin in range(0, 40, 4)]
    loader = StepLoader({"task": task}, 0, 10, workers=workers)
    try:
        kept = [step.tasks["task"][0]["pixels"] for step in loader]  # all at once: no batch is written over
    finally:
        loader.close()
    assert all(map(torch.equal, kept, units))
    assert len(kept) == len(units)
