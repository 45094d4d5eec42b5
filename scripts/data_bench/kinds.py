"""The synthetic data of the loader benchmark: what a sample is, and each loader's own format of the same samples."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHARDS = 32


@dataclass(frozen=True)
class Kind:
    """A kind of sample.

    Attributes:
        name: image, text or audio.
        samples: how many of them.
        batch: samples of one step.
        field: extension of the member beside ``txt``; None for text alone.
    """

    name: str
    samples: int
    batch: int
    field: str | None

    def folder(self, data: Path) -> Path:
        """Where its formats lie; another number of samples is another folder."""
        return data / f"{self.name}-{self.samples}"


FULL = {
    "image": Kind("image", 20_000, 64, "jpg"),
    "text": Kind("text", 50_000, 64, None),
    "audio": Kind("audio", 2_000, 16, "flac"),
}
QUICK = {
    "image": Kind("image", 640, 16, "jpg"),
    "text": Kind("text", 1_280, 16, None),
    "audio": Kind("audio", 128, 4, "flac"),
}


class Samples:
    """Sample i of a kind, from a small pool of contents. ``txt`` begins with i in eight digits: what readers check."""

    def __init__(self, kind: Kind) -> None:
        rng = np.random.default_rng(0)
        self.kind = kind
        self.vocabulary = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(4000)]
        characters = {"image": (60, 0.1), "audio": (30, 0.1), "text": (1350, 0.5)}[kind.name]
        sizes = np.clip(characters[0] * rng.lognormal(0, characters[1], 512), 20, 8000).astype(int)
        self.texts = [self._words(rng, size) for size in sizes]
        self.pool = {"image": _pictures, "audio": _clips, "text": lambda _: [b""]}[kind.name](rng)

    def _words(self, rng: np.random.Generator, size: int) -> str:
        ranks = (
            np.minimum(rng.zipf(1.3, size // 4), len(self.vocabulary)) - 1
        )  # frequent words are frequent, as in prose
        return " ".join(self.vocabulary[rank] for rank in ranks)[:size]

    def __call__(self, number: int) -> dict[str, str | bytes]:
        number = int(number)
        sample: dict[str, str | bytes] = {"txt": f"{number:08d} {self.texts[number * 7 % len(self.texts)]}"}
        if self.kind.field:
            sample[self.kind.field] = self.pool[number * 13 % len(self.pool)]
        return sample

    def __iter__(self) -> Iterator[dict[str, str | bytes]]:
        return map(self, range(self.kind.samples))


def _pictures(rng: np.random.Generator) -> list[bytes]:
    """JPEGs of 224 x 224 pixels and about 12 KB: soft shapes under grain."""
    from PIL import Image

    found = []
    for _ in range(256):
        soft = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((224, 224), Image.BICUBIC)
        grain = np.asarray(soft, dtype=np.int16) + rng.integers(-14, 15, (224, 224, 3), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=79)
        found.append(file.getvalue())
    return found


def _clips(rng: np.random.Generator) -> list[bytes]:
    """FLACs of 4 s at 16 kHz and about 100 KB: a tone in noise."""
    import soundfile

    time, found = np.arange(64_000) / 16_000, []
    for _ in range(64):
        wave = 0.07 * rng.standard_normal(len(time)) + 0.2 * np.sin(2 * np.pi * rng.uniform(80, 400) * time)
        file = io.BytesIO()
        soundfile.write(file, wave.astype(np.float32), 16_000, format="FLAC", subtype="PCM_16")
        found.append(file.getvalue())
    return found


def _tar(root: Path, samples: Samples) -> None:
    from data.write import tar_bytes, write

    def encoded(sample: dict[str, str | bytes]) -> dict[str, bytes]:
        return {name: value.encode() if isinstance(value, str) else value for name, value in sample.items()}

    # Field by field in the order that img2dataset and others use: the file, then its text.
    rows = ((f"{n:08d}", dict(reversed(encoded(sample).items()))) for n, sample in enumerate(samples))
    every = sum(tar_bytes(encoded(samples(n))) for n in range(0, samples.kind.samples, 16)) * 16
    write(rows, root, "shard", max_bytes=every // SHARDS + 64 * 1024)


def _mds(root: Path, samples: Samples) -> None:
    from streaming import MDSWriter

    columns = {"txt": "str"} | ({samples.kind.field: "bytes"} if samples.kind.field else {})
    each = sum(len(value) for n in range(64) for value in samples(n).values()) // 64
    with MDSWriter(out=str(root), columns=columns, size_limit=each * samples.kind.samples // SHARDS) as writer:
        for sample in samples:
            writer.write(sample)


def _litdata(root: Path, samples: Samples) -> None:
    import litdata

    each = -(-samples.kind.samples // SHARDS)
    numbers = list(range(samples.kind.samples))
    litdata.optimize(samples, numbers, str(root), chunk_size=each, num_workers=1, verbose=False, keep_data_ordered=True)


def _arrow(root: Path, samples: Samples) -> None:
    from datasets import Dataset

    cache = root.with_name(root.name + ".cache")
    Dataset.from_generator(lambda: iter(samples), cache_dir=str(cache)).save_to_disk(root, num_shards=SHARDS)
    shutil.rmtree(cache)


def _tokenizer(root: Path, samples: Samples) -> None:
    from modalities.text.tokenizer import train

    root.mkdir()
    train((str(samples(n)["txt"]) for n in range(min(512, samples.kind.samples))), 4000).save(
        str(root / "tokenizer.json")
    )


WRITERS: dict[str, Callable[[Path, Samples], None]] = {
    "tar": _tar,
    "mds": _mds,
    "litdata": _litdata,
    "arrow": _arrow,
    "tokenizer": _tokenizer,
}


def make(data: Path, kind: Kind, formats: list[str]) -> None:
    """Writes the ``formats`` of ``kind`` that are not there yet. What has its name is complete."""
    samples: Samples | None = None
    for name in formats:
        root = kind.folder(data) / name
        if root.exists():
            continue
        samples = samples or Samples(kind)
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = root.with_name(f"{name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        WRITERS[name](partial, samples)
        os.replace(partial, root)


def tar_size(kind: Kind, data: Path) -> int:
    """Bytes of the tar shards of ``kind``."""
    return sum(path.stat().st_size for path in (kind.folder(data) / "tar").glob("*.tar"))
