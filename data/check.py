"""Checks shards: what they hold, and whether they are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.errors import InputError
from data.index import ShardIndex, scan

_EXAMPLES = 3


@dataclass
class Lacking:
    """Samples without a member that more than half of the shard's samples have."""

    count: int
    examples: list[str]


@dataclass
class ShardCheck:
    """What one shard holds.

    Attributes:
        path: the tar file.
        samples: number of samples.
        bytes: size of the tar file.
        extensions: extension -> number of samples that have it.
        lacking: extension -> the samples that lack it, where most have it.
        damage: why the shard is not sound, "" if it is.
    """

    path: str
    samples: int
    bytes: int
    extensions: dict[str, int]
    lacking: dict[str, Lacking]
    damage: str


def check(paths: Iterable[str]) -> Iterator[ShardCheck]:
    """Reads the headers of each tar anew; an index beside it is neither trusted nor touched.

    Raises:
        InputError: a shard cannot be read.
    """
    for path in paths:
        try:
            yield _check(scan(path))
        except OSError as error:
            raise InputError(f"shard '{path}' cannot be read: {error.strerror}") from None


def as_json(shards: list[ShardCheck]) -> dict[str, Any]:
    """All shards as one JSON object: shards, samples, bytes, extensions, and the paths of the damaged ones."""
    return {
        "shards": [asdict(shard) for shard in shards],
        "samples": sum(shard.samples for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "extensions": extensions(shards),
        "damaged": [shard.path for shard in shards if shard.damage],
    }


def extensions(shards: list[ShardCheck]) -> dict[str, int]:
    """Extension -> number of samples that have it, over all shards, most frequent first."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.extensions)
    return dict(total.most_common())


def _check(index: ShardIndex) -> ShardCheck:
    counts = np.bincount(index.extension, minlength=len(index.extensions)).tolist()
    held = dict(zip(index.extensions, counts, strict=True))
    lacking = {}
    for extension, count in held.items():
        if len(index) / 2 < count < len(index):
            without = index.lacking((extension,))
            lacking[extension] = Lacking(len(without), [index.keys[i] for i in without[:_EXAMPLES]])
    damage = index.damage or ("" if len(index) else "holds no samples")
    return ShardCheck(index.path, len(index), index.tar_bytes, held, lacking, damage)
