"""Checks shards: what they hold, whether they are whole, and what occurs twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.pack import media
from data.shards.index import ShardIndex, scan
from data.shards.summary import Summary
from data.store import url as urls
from data.store.store import Store
from data.survey.repeats import Repeats, digest_of

_EXAMPLES = 3
Digests = bytes


@dataclass
class Some:
    """How many things there are of a kind, and the first few."""

    count: int
    examples: list[str]


@dataclass
class ShardCheck:
    """What one shard holds.

    Attributes:
        shard: path or URL of the tar file.
        samples: number of complete samples.
        bytes: size of the tar file as it is stored.
        members: extension -> number of samples that have it.
        lacking: extension -> the samples that lack it, where most have it; ``png or jpg``, where others stand for it.
        repeated: samples whose key another sample of the shard has too, as KEY#2 and so on.
        damage: a line for each damaged place; empty if the shard is sound.
        keys: digest of each key, for :func:`data.survey.repeats.find`.
    """

    shard: str
    samples: int
    bytes: int
    members: dict[str, int]
    lacking: dict[str, Some] = field(default_factory=dict)
    repeated: Some = field(default_factory=lambda: Some(0, []))
    damage: list[str] = field(default_factory=list)
    keys: Digests = b""

    def compare(self, told: Summary | None) -> None:
        """Notes as damage where a manifest that names the shard, ``told``, says something else of it."""
        if told is None or not self.bytes:  # it cannot be read, which is said already
            return
        for name, says, is_ in (("samples", told.samples, self.samples), ("bytes", told.bytes, self.bytes)):
            if says not in (-1, is_):
                self.damage.append(f"its manifest says {says} {name}, and it has {is_}")

    def as_json(self) -> dict[str, Any]:
        """Plain values, without the digests."""
        row = asdict(self)
        del row["keys"]
        return row


def check(url: str, store: Store) -> ShardCheck:
    """Reads the headers of a tar anew; an index beside it is neither trusted nor touched.

    Raises:
        InputError: the shard cannot be read.
        RunError: it cannot be had.
    """
    stored = store.stamp(url).bytes
    file = store.fetch(url)
    try:
        return _check(url, file, stored, store.note(url))
    except (OSError, SampleError) as error:
        reason = str(error) if isinstance(error, SampleError) else error.strerror
        raise InputError(f"shard '{urls.shown(url)}' cannot be read: {reason}") from None
    finally:
        os.close(file)


def _check(url: str, file: int, stored: int, note: str) -> ShardCheck:
    index = scan(file, note, stored)
    held = index.summary.members
    found = ShardCheck(url, len(index), stored, dict(held), damage=list(index.summary.damage))
    if not len(index) and not found.damage:
        found.damage.append("holds no samples")
    for extension, count in held.items():
        if len(index) / 2 < count < len(index):
            forms = [extension, *(other for other in held if other != extension and _alike(extension, other))]
            lacking = index.lacking(forms)
            if len(lacking):
                found.lacking[" or ".join(forms)] = _some(index, lacking, file)
    found.repeated = _some(index, index.again[:, 0], file)
    keys = (index.key(number, file) for number in range(len(index)))
    found.keys = b"".join(digest_of([key.encode("utf-8", "surrogateescape")]) for key in keys)
    return found


def _alike(one: str, other: str) -> bool:
    """Whether they are extensions of the same kind of thing, of which a sample has one."""
    return any(one in kind and other in kind for kind in (media.IMAGE, media.AUDIO))


def _some(index: ShardIndex, numbers: np.ndarray, file: int) -> Some:
    return Some(len(numbers), [index.key(int(number), file) for number in numbers[:_EXAMPLES]])


def members(shards: Iterable[ShardCheck]) -> dict[str, int]:
    """Extension -> number of samples that have it, over all shards, most frequent first."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.members)
    return dict(total.most_common())


@dataclass
class Report:
    """What was found in all shards together.

    Attributes:
        shards: one by one.
        keys: keys that stand in several shards.
        key_examples: for each group that ``keys`` names, the key.
        duplicates: samples of the same content; None if contents were not compared.
        duplicate_examples: for each group that ``duplicates`` names, its samples as (shard, key).
        bad: samples that cannot be decoded: ``{"shard", "key", "member", "reason"}``; None if none was decoded.
        decoded: how many samples were decoded.
    """

    shards: Sequence[ShardCheck]
    keys: Repeats
    key_examples: list[str]
    duplicates: Repeats | None = None
    duplicate_examples: list[list[tuple[str, str]]] = field(default_factory=list)
    bad: list[dict[str, str]] | None = None
    decoded: int = 0

    @property
    def wrong(self) -> bool:
        """Whether something is wrong: damage, or samples that cannot be decoded."""
        return any(shard.damage for shard in self.shards) or bool(self.bad)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        found: dict[str, Any] = {
            "shards": [shard.as_json() for shard in self.shards],
            "samples": sum(shard.samples for shard in self.shards),
            "bytes": sum(shard.bytes for shard in self.shards),
            "members": members(self.shards),
            "damaged": [shard.shard for shard in self.shards if shard.damage],
            "repeated_keys": {
                "count": self.keys.surplus,
                "examples": [
                    {"key": key, "shards": [self.shards[place].shard for place, _ in group]}
                    for key, group in zip(self.key_examples, self.keys.groups, strict=True)
                ],
            },
        }
        if self.duplicates is not None:
            found["duplicates"] = {
                "count": self.duplicates.surplus,
                "examples": [[list(sample) for sample in group] for group in self.duplicate_examples],
            }
        if self.bad is not None:
            found |= {"decoded": self.decoded, "bad": self.bad}
        return found
