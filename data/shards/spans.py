"""Where many samples lie: what is known of their bytes before the first of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data.errors import RunError, SampleError
from data.shards.shardindex import AT_ONCE, ShardIndex, readable_at_once
from data.shards.source import Source
from data.shards.tarheader import BLOCK

_EXTENDED = 3  # blocks of headers: a PAX header, its records, the header itself
# Four octal digits of a number, as text, in 32 bits.
_DIGITS = np.frombuffer(b"".join(b"%04o" % number for number in range(8**4)), dtype=np.uint32)


@dataclass(frozen=True, eq=False)
class Spans:
    """N samples, each of them to be read in one piece: from its first member's header to the end of its last member.

    Places count from the begin of the first piece as if the pieces lay end to end. A sample that is not regular has no
    piece: members far apart, with longer headers, or without a field; a shard whose index is not to be had.

    Attributes:
        source, shard: (N,) of each sample.
        offset: (N,) where in its shard a piece begins, bytes.
        length: (N,) bytes of a piece; 0 where there is none.
        at: (N + 1,) where each piece lies.
        edges: (N, F, 2) where the content of each of F fields begins and ends.
        first: (N + 1,) the members of sample i are ``first[i]:first[i + 1]``.
        header: (M,) where the header of each member lies.
        digits: (M, 11) uint8, what it must say of the member's size.
        extended: (M,) whether a PAX header stands before it, which may say another size.
        plain: whether none has one.
        pinning: whether a shard that is open keeps bytes of a cache occupied.
    """

    source: np.ndarray
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    at: np.ndarray
    edges: np.ndarray
    first: np.ndarray
    header: np.ndarray
    digits: np.ndarray
    extended: np.ndarray
    plain: bool
    pinning: bool

    def __len__(self) -> int:
        return len(self.offset)


def find(sources: Sequence[Source], places: np.ndarray, fields: Sequence[str], most: int = AT_ONCE) -> Spans:
    """The spans of the samples at ``places``.

    Args:
        sources: of a stream.
        places: (N, 3) int64, source, epoch and number.
        fields: extensions of the members whose contents are wanted, each once.
        most: bytes of the largest piece.
    """
    source, number = places[:, 0], places[:, 2]
    shard, inner, base = np.empty_like(number), np.empty_like(number), 0
    group = np.empty_like(number)  # a number for each shard of each source
    begins = []
    for s, opened in enumerate(sources):
        begins.append(base)
        own = slice(None) if len(sources) == 1 else source == s
        shard[own], inner[own] = opened.places(number[own])
        group[own] = shard[own] + base
        base += len(opened.urls)
    order = np.argsort(group.astype(np.uint16) if base <= 2**16 else group, kind="stable")
    edges = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1)).tolist()
    parts = []
    for a, b in pairwise(edges):
        one = order[a]
        index = _index(sources[source[one]], int(shard[one]))
        parts.append(_members(index, inner[order[a:b]], fields))
    return _arranged(order, parts, len(fields), source, shard, any(s.pinning for s in sources), most)


def _index(source: Source, shard: int) -> ShardIndex | None:
    try:
        return source.index(shard)
    except (SampleError, RunError):  # said again when a sample of it is read
        return None


def _members(index: ShardIndex | None, samples: np.ndarray, fields: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Of each of ``samples`` how many members; of each member block, size, run, and which of ``fields``, or -1."""
    count = len(samples)
    if index is None:
        nothing = np.zeros(count, dtype=np.int64)
        return nothing + 1, nothing, nothing, nothing, nothing - 1
    field = np.array([fields.index(e) if e in fields else -1 for e in index.extensions])
    if index.width:
        widths = np.full(count, index.width)
        rows = (samples[:, None] * index.width + np.arange(index.width)).reshape(-1)
    else:
        assert index.first is not None
        begins = index.first[samples].astype(np.int64)
        widths = index.first[samples + 1].astype(np.int64) - begins
        rows = ragged(begins, widths)
    # A folded column has an element for each member of a sample.
    run, extension = (
        np.tile(column, count) if len(column) == index.width else column[rows]
        for column in (index.run, index.extension)
    )
    return widths, index.block[rows], index.size[rows], run, field[extension]


def ragged(begins: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """``begins[0], begins[0] + 1, ...`` ``widths[0]`` numbers, then the same of the next; int64."""
    before = np.cumsum(widths) - widths
    return np.repeat(begins - before, widths) + np.arange(int(widths.sum()))


def _octal(size: np.ndarray) -> np.ndarray:
    """(M, 11) uint8: ``size`` in octal digits, as it stands in a header; not that of 8 GiB and more."""
    digits = np.empty((len(size), 3), dtype=np.uint32)
    for column, shift in enumerate((24, 12, 0)):
        digits[:, column] = _DIGITS[(size >> shift) & 0xFFF]
    return np.ascontiguousarray(digits.view(np.uint8)[:, 1:])


def _arranged(
    order: np.ndarray,
    parts: list[tuple[np.ndarray, ...]],
    fields: int,
    source: np.ndarray,
    shard: np.ndarray,
    pinning: bool,
    most: int,
) -> Spans:
    """Spans from the members of the samples ``order``, shard after shard."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    # From the order of shards to the order of samples.
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    widths = columns[0][place]
    rows = ragged((np.cumsum(columns[0]) - columns[0])[place], widths)
    block, size, run, field = (column[rows] for column in columns[1:])
    content, size = block.astype(np.int64) * BLOCK, size.astype(np.int64)
    ends = np.cumsum(widths)
    first, last = ends - widths, ends - 1
    begin = content[first] - run[first].astype(np.int64) * BLOCK
    length = content[last] + size[last] - begin
    regular = readable_at_once(length, np.add.reduceat(size, first), most)
    extended = run == _EXTENDED
    if not (run == 1).all():
        regular &= np.logical_and.reduceat((run == 1) | extended, first)
    wanted = field >= 0
    if fields != 1 or not wanted.all() or len(rows) != len(widths):
        regular &= np.add.reduceat(wanted, first, dtype=np.int64) == fields  # no sample has an extension twice
    if not regular.all():
        kept = np.repeat(regular, widths)
        content, size, field, wanted, extended = (c[kept] for c in (content, size, field, wanted, extended))
        length, widths = np.where(regular, length, 0), np.where(regular, widths, 0)
        ends = np.cumsum(widths)
    at = np.concatenate(([0], np.cumsum(length)))
    content -= np.repeat(begin - at[:-1], widths)
    edges = np.full((len(widths), fields, 2), -1)
    flat = (np.repeat(np.arange(0, len(widths) * fields, fields), widths) + field)[wanted]
    edges.reshape(-1, 2)[flat, 0] = content[wanted]
    edges.reshape(-1, 2)[flat, 1] = (content + size)[wanted]
    first = np.concatenate(([0], ends))
    header, digits, plain = content - BLOCK, _octal(size), not extended.any()
    return Spans(source, shard, begin, length, at, edges, first, header, digits, extended, plain, pinning)
