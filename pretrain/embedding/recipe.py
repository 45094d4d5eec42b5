"""What a folder of embeddings was made of: enough to go on with it, and to ask questions of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from data.errors import InputError

RECIPE = "embeddings.json"


@dataclass(frozen=True)
class Recipe:
    """All that decides which numbers come out. Two parts of one folder are always of one recipe.

    Attributes:
        run: the run or checkpoint as it was named, absolute; where it lies decides nothing.
        checkpoint: SHA-256 of the checkpoint's manifest.
        step: of the checkpoint.
        averaged: whether weights are the moving average.
        encoder, modality: its name, and what it takes.
        pool: ``own`` (the encoder's), ``mean``, ``first`` or ``last``.
        layer: blocks of the trunk that are computed; None: all, with its last norm.
        projection: features of the joint space, None: no projection.
        width: D, of what comes out.
        prepare: config node of what prepares samples.
        needs: what a sample must have, as the prepare says it.
        source: patterns of shards, or files and folders.
        files: whether ``source`` names loose files.
        fingerprint: of the shards or files.
        samples: N, of the source, from its first on.
        batch_size: samples that are computed together.
        part_size: samples of a part.
        format, dtype: of the parts.
        device: ``cpu`` or ``cuda``, which round otherwise.
        threads: of a process on the CPU; another number rounds otherwise.
    """

    run: str
    checkpoint: str
    step: int
    averaged: bool
    encoder: str
    modality: str
    pool: str
    layer: int | None
    projection: int | None
    width: int
    prepare: dict[str, Any]
    needs: dict[str, list[str]]
    source: list[str]
    files: bool
    fingerprint: dict[str, str]
    samples: int
    batch_size: int
    part_size: int
    format: str
    dtype: str
    device: str
    threads: int

    @property
    def parts(self) -> int:
        """How many parts there are to be."""
        return -(-self.samples // self.part_size)

    def part(self, number: int) -> range:
        """Samples of a part."""
        return range(number * self.part_size, min((number + 1) * self.part_size, self.samples))

    def as_json(self) -> bytes:
        """Content of :data:`RECIPE`."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read(folder: Path) -> Recipe | None:
    """The recipe of a folder of embeddings, None where there is none.

    Raises:
        InputError: the file is no recipe of this version.
    """
    path = folder / RECIPE
    if not path.exists():
        return None
    try:
        return Recipe(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{path}' does not say what the embeddings are of: {str(error)[:120]}") from None


def check_same(there: Recipe, now: Recipe, folder: Path) -> None:
    """Checks that what is to be added belongs to what is there.

    Raises:
        InputError: naming each setting that differs, with both values.
    """
    names = [field.name for field in fields(Recipe) if field.name != "run"]
    lines = [f"{n}={getattr(there, n)!r} there, {getattr(now, n)!r} now" for n in names if _differ(there, now, n)]
    if lines:
        raise InputError(f"--out '{folder}' holds other embeddings: {'; '.join(lines)}; give another folder")


def _differ(there: Recipe, now: Recipe, name: str) -> bool:
    return bool(getattr(there, name) != getattr(now, name))
