"""Samples looked at where they lie: the members of a batch in the mappings of their shards, without a copy.

Who makes a batch says where its members lie and looks at no more than their headers; who takes it looks at the members,
in mappings of its own, so that nothing but places passes from a worker to the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from data.loading import block
from data.shards.source import Source
from data.shards.spans import Spans
from data.shards.tarheader import BLOCK

LARGEST = 2**30
"""Bytes of a sample that may be looked at; if it is read instead, that is one call, which returns 2 GiB at most."""
_PAX = 2 * BLOCK  # headers before the header of a member that has more than that one


class Located(NamedTuple):
    """F fields of B samples, all of which lie in memory.

    Attributes:
        where: (B, 3) int64, number of the source, of the shard there, and the version of the shard's file.
        edges: (B, F, 2) int64; field f of sample b is the bytes ``edges[b, f, 0]`` to ``edges[b, f, 1]`` of its shard.
    """

    where: np.ndarray
    edges: np.ndarray


def locate(sources: Sequence[Source], spans: Spans, begin: int, end: int) -> Located | None:
    """Where the samples ``begin`` to ``end`` (exclusive) of ``spans`` lie.

    None where they are to be read: one does not lie in memory or not for long (in a cache), is not regular, or is not
    what its index says.
    """
    own, first = slice(begin, end), spans.first[begin : end + 1]
    if spans.pinning or not spans.length[own].all():
        return None
    source, shard, offset = spans.source[own], spans.shard[own], spans.offset[own]
    keys = block.shard_keys(sources, source, shard)
    mapped = _mapped(sources, keys)
    if mapped is None or not _within(mapped, keys, offset + spans.length[own]):
        return None
    shift = offset - spans.at[own]  # from a place among the pieces to one in the shard
    members = slice(first.item(0), first.item(-1))
    widths = np.diff(first)
    headers = spans.header[members] + np.repeat(shift, widths)
    before = spans.extended[members] * _PAX
    looks = zip(
        np.repeat(np.arange(len(keys)), widths).tolist(),
        (headers - before).tolist(),
        (headers + BLOCK).tolist(),
        strict=True,
    )
    contents = [mapped[key][0] for key in keys]
    read = np.frombuffer(b"".join([contents[sample][a:b] for sample, a, b in looks]), dtype=np.uint8)
    if block.changed(spans, members, read, np.cumsum(before + BLOCK) - BLOCK) is not None:
        return None
    versions = [mapped[key][1] for key in keys]
    return Located(np.column_stack((source, shard, versions)), spans.edges[own] + shift[:, None, None])


def look(sources: Sequence[Source], located: Located) -> list[list[np.ndarray]] | None:
    """The F members of the B samples, read-only uint8 arrays over the mapped shards.

    None where they are to be read, because a shard does not lie in memory any more, or another one lies in its place.
    """
    where, edges = located
    keys = block.shard_keys(sources, where[:, 0], where[:, 1])
    mapped = _mapped(sources, keys)
    if mapped is None or [mapped[key][1] for key in keys] != where[:, 2].tolist():
        return None
    if not _within(mapped, keys, edges[:, :, 1].max(axis=1)):
        return None
    whole = {key: np.frombuffer(content, dtype=np.uint8) for key, (content, _) in mapped.items()}
    return [[whole[key][a:b] for a, b in row] for key, row in zip(keys, edges.tolist(), strict=True)]


def _mapped(sources: Sequence[Source], keys: list[Any]) -> dict[Any, tuple[memoryview, int]] | None:
    """The content and version of each of the shards; None if one is to be read."""
    now, found, wanted = monotonic(), {}, set(keys)
    for key, one in block.open_shards(sources, wanted).items():
        content = one.mapped.view(now)
        if content is None:
            return None
        found[key] = content, one.version
    return found if len(found) == len(wanted) else None


def _within(mapped: dict[Any, tuple[memoryview, int]], keys: list[Any], ends: np.ndarray) -> bool:
    """Whether the shards are as long as it takes."""
    return bool((ends <= np.array([len(mapped[key][0]) for key in keys])).all())
