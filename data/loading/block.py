"""The undecoded bytes of a batch in one piece of memory, read into it sample by sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from data.loading.watch import NUMBER, Seat
from data.shards.openshards import Opened
from data.shards.source import Source
from data.shards.spans import Spans
from data.shards.tarheader import BLOCK

Memory: TypeAlias = Callable[[int], np.ndarray]
"""(size,) uint8 to write to; asked again for more, it may be the same memory, grown."""
_SIZE, _DIGITS, _KIND = 124, 11, 156  # where a header says the size, in how many digits, and the kind of member
_MTIME = np.frombuffer(b"NN mtime=", dtype=np.uint8)


class Block(NamedTuple):
    """The F fields of B samples.

    Attributes:
        buffer: uint8. Between contents lie the headers of the tar: only ``edges`` tells what is meant.
        edges: (B, F, 2) int64; field f of sample b is ``buffer[edges[b, f, 0] : edges[b, f, 1]]``.
    """

    buffer: np.ndarray
    edges: np.ndarray

    def filled(self, members: dict[int, Sequence[bytes]], memory: Memory) -> Block:
        """With the F members of the samples that ``members`` names in place of what was there."""
        end = len(self.buffer)
        buffer = memory(end + sum(len(member) for row in members.values() for member in row))
        if not np.may_share_memory(buffer, self.buffer):
            buffer[:end] = self.buffer
        edges = self.edges.copy()
        for sample, row in members.items():
            for field, member in enumerate(row):
                edges[sample, field] = end, end + len(member)
                buffer[end : end + len(member)] = np.frombuffer(member, dtype=np.uint8)
                end += len(member)
        return Block(buffer, edges)


def read(
    sources: Sequence[Source], spans: Spans, begin: int, end: int, names: Sequence[int], memory: Memory, seat: Seat
) -> tuple[Block, list[int]]:
    """Reads the samples ``begin`` to ``end`` (exclusive) of ``spans``, one system call each.

    Args:
        sources: of the stream.
        spans: where the samples lie.
        begin: the first of them.
        end: the one behind the last.
        names: what to note of each sample while it is read, see :meth:`data.loading.watch.Seat.reading_block`.
        memory: where to.
        seat: where to note.

    Returns:
        The block, and the samples of it, counted from ``begin``, that are not there: those that are not regular,
        cannot be read, or are not what their index says.
    """
    base = spans.at.item(begin)
    buffer = memory(spans.at.item(end) - base)
    lengths = spans.length[begin:end].tolist()
    got = _read(sources, spans, begin, lengths, memoryview(buffer.data), names, seat)
    failed = []
    if (got is not lengths and got != lengths) or 0 in lengths:
        failed = [n for n, (size, length) in enumerate(zip(got, lengths, strict=True)) if size != length or not size]
    own = slice(spans.first.item(begin), spans.first.item(end))
    other = changed(spans, own, buffer, spans.header[own] - base)
    if other is not None:
        samples = np.searchsorted(spans.first, spans.first[begin] + other, side="right") - 1 - begin
        failed = sorted({*failed, *samples.tolist()})
    return Block(buffer, spans.edges[begin:end] - base), failed


def changed(spans: Spans, own: slice, buffer: np.ndarray, headers: np.ndarray) -> np.ndarray | None:
    """Which of the members ``own`` have headers that may say something else than the index; None: none has.

    Few calls, as little of the processor's caches is left to their code after the contents of a batch.

    Args:
        spans: what the index says.
        own: the members looked at.
        buffer: in which their headers lie.
        headers: where there.
    """
    digits = spans.digits[own]
    stated = _bytes(buffer, headers + _SIZE, _DIGITS)
    same = stated.tobytes() == digits.tobytes()
    if same and spans.plain:
        return None
    other = np.zeros(len(headers), dtype=bool) if same else (stated != digits).any(axis=1)
    extended = np.flatnonzero(spans.extended[own])
    if len(extended):
        # What most writers put there is a record "NN mtime=..." of NN bytes, and no other one.
        at = headers[extended] - 2 * BLOCK
        size, record = _bytes(buffer, at + _SIZE, _DIGITS), _bytes(buffer, at + BLOCK, len(_MTIME))
        length = (record[:, :2] - np.uint8(48)) @ np.array([10, 1], dtype=np.uint8)
        plain = (size[:, -2:] - np.uint8(48)) @ np.array([8, 1], dtype=np.uint8) == length
        plain &= (record[:, 2:] == _MTIME[2:]).all(axis=1) & (size[:, :-2] == 48).all(axis=1)
        other[extended] |= ~plain | (buffer[at + _KIND] != ord("x"))
    return np.flatnonzero(other) if other.any() else None


def _bytes(buffer: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """(n, count) uint8: what stands at each of ``places``."""
    windows: np.ndarray = np.ndarray((max(0, len(buffer) - count + 1), count), np.uint8, buffer, 0, (1, 1))
    return windows[places]


def _read(
    sources: Sequence[Source],
    spans: Spans,
    begin: int,
    lengths: list[int],
    view: memoryview,
    names: Sequence[int],
    seat: Seat,
) -> list[int]:
    """Bytes read of each sample; less than its piece has, or -1, where something is wrong with it."""
    numbers, preadv, end = seat.numbers, os.preadv, begin + len(lengths)
    edges = list(accumulate(lengths, initial=0))
    offsets = spans.offset[begin:end].tolist()
    keys = shard_keys(sources, spans.source[begin:end], spans.shard[begin:end])
    opened = {} if spans.pinning else open_shards(sources, set(keys))
    if not spans.pinning:
        try:
            now = monotonic()
            in_memory = {key: seen for key, one in opened.items() if (seen := one.mapped.view(now)) is not None}
            if opened and len(in_memory) == len(opened):
                contents = map(in_memory.__getitem__, keys)
                for numbers[NUMBER], content, offset, a, b in zip(
                    names, contents, offsets, edges, edges[1:], strict=False
                ):
                    view[a:b] = content[offset : offset + b - a]
                return lengths
            files = {key: one.file for key, one in opened.items()}
            rows = zip(names, map(files.__getitem__, keys), offsets, edges, edges[1:], strict=False)
            return [preadv(file, [view[a:b]], offset) for numbers[NUMBER], file, offset, a, b in rows]
        except (KeyError, OSError, ValueError):  # one of them, so sample by sample
            pass
    got = []
    for numbers[NUMBER], key, offset, a, b in zip(names, keys, offsets, edges, edges[1:], strict=False):
        try:
            if b == a:
                got.append(0)
            elif spans.pinning:  # held by no name here: it must give way to the next one
                got.append(_read_one(open_shards(sources, (key,))[key], view[a:b], offset))
            else:
                got.append(preadv(opened[key].file, [view[a:b]], offset))
        except (KeyError, OSError):
            got.append(-1)
    return got


def _read_one(opened: Opened, view: memoryview, offset: int) -> int:
    return os.preadv(opened.file, [view], offset)


def shard_keys(sources: Sequence[Source], source: np.ndarray, shard: np.ndarray) -> list[Any]:
    """What :func:`open_shards` knows the shard of each sample by: its number, or the pair of the source's and that."""
    shards: list[Any] = shard.tolist()
    return shards if len(sources) == 1 else list(zip(source.tolist(), shards, strict=True))


def open_shards(sources: Sequence[Source], keys: Iterable[Any]) -> dict[Any, Opened]:
    """The open shards of ``keys``, as far as they can be opened; to be held for a moment only."""
    if len(sources) == 1:
        return sources[0].open(keys)
    found = {}
    for source, shard in keys:
        for opened in sources[source].open((shard,)).values():
            found[source, shard] = opened
    return found
