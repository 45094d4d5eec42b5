"""Finds what occurs twice among very many things, by digests of 16 bytes: 24 bytes of memory a thing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DIGEST = 16


@dataclass(frozen=True)
class Repeats:
    """Things that occur more than once.

    Attributes:
        surplus: how many could go so that each is there once.
        groups: the first few, each a list of (place, number within the place) in order.
    """

    surplus: int
    groups: list[list[tuple[int, int]]]


def digest_of(parts: Iterable[bytes]) -> bytes:
    """16 bytes that stand for ``parts``; where one part ends and the next begins counts."""
    state = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def content_digest(members: Mapping[str, bytes]) -> bytes:
    """16 bytes that stand for the contents of a sample; its key does not count, the names of its members do."""
    return digest_of(
        part for name in sorted(members) for part in (name.encode("utf-8", "surrogateescape"), members[name])
    )


def find(digests: Sequence[bytes], examples: int = 5, across: bool = False) -> Repeats:
    """What occurs twice.

    Args:
        digests: one string a place (a shard), the digests of its things one after the other.
        examples: how many groups are named.
        across: a thing that occurs twice in one place alone does not count.
    """
    counts = [len(part) // DIGEST for part in digests]
    total = sum(counts)
    if total < 2:
        return Repeats(0, [])
    pairs = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
    ends = np.cumsum(counts)
    order = np.lexsort((np.arange(total), pairs[:, 1], pairs[:, 0]))
    ordered = pairs[order]
    same = (ordered[1:] == ordered[:-1]).all(1)
    place = np.searchsorted(ends, order, side="right")
    if across:
        same &= place[1:] != place[:-1]
    starts = np.flatnonzero(same & ~np.concatenate(([False], same[:-1])))
    # In the order in which they stand in the data, not in that of their digests.
    starts = starts[np.argsort(order[starts], kind="stable")][:examples]
    groups = []
    for start in starts.tolist():
        end = start + 1
        while end < total and same[end - 1]:
            end += 1
        group = []
        for at in range(start, end):
            begin = int(ends[place[at] - 1]) if place[at] else 0
            group.append((int(place[at]), int(order[at]) - begin))
        groups.append(group)
    return Repeats(int(same.sum()), groups)
