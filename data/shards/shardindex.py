"""The index of a shard: where each member of each sample lies, so that samples are read in any order.

It holds no names: a member's name stands in the tar just before its content, and is read together with it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from data.errors import SampleError
from data.shards import tarheader
from data.shards.membername import split_name
from data.shards.summary import Summary
from data.shards.tarheader import BLOCK

_SLACK = 64 * 1024
AT_ONCE = 4 * 2**20
"""Bytes of the largest sample that is read in one piece."""


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """N samples with M members in all, sample by sample. Columns have the smallest type that holds their values.

    Attributes:
        summary: the shard in numbers.
        extensions: the distinct extensions of the shard.
        width: members of each sample; 0 where samples differ in this.
        first: (N + 1,); the members of sample i are ``first[i]:first[i + 1]``; None where ``width`` says it.
        block: (M,), number of the block of 512 bytes with which each member's content begins.
        size: (M,), bytes of each content.
        extension: (M,), into ``extensions``; (width,) where it is the same for every sample.
        run: (M,), blocks of headers before each content; (width,) where it is the same for every sample.
        again: (R, 2), sample i is the n-th of its key, for the samples whose key occurred before; sorted by i.
        doubtful: (D,), samples beside damage, which may have lost a member; sorted.
    """

    summary: Summary
    extensions: tuple[str, ...]
    width: int
    first: np.ndarray | None
    block: np.ndarray
    size: np.ndarray
    extension: np.ndarray
    run: np.ndarray
    again: np.ndarray
    doubtful: np.ndarray

    def __len__(self) -> int:
        return self.summary.samples

    @property
    def nbytes(self) -> int:
        """What it takes in memory, bytes."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return 2000 + 200 * len(self.extensions) + sum(c.nbytes for c in columns if isinstance(c, np.ndarray))

    def span(self, i: int) -> tuple[int, int]:
        """The members of sample ``i``: the first, and the one behind the last."""
        if self.width:
            return i * self.width, (i + 1) * self.width
        assert self.first is not None
        return self.first.item(i), self.first.item(i + 1)

    def members(self, i: int) -> dict[str, tuple[int, int]]:
        """Extension -> (offset, size) of sample ``i``, bytes."""
        a, b = self.span(i)
        numbers = self._of(self.extension, a, b)
        places = zip(numbers, self.block[a:b].tolist(), self.size[a:b].tolist(), strict=True)
        return {self.extensions[number]: (block * BLOCK, size) for number, block, size in places}

    def _of(self, column: np.ndarray, a: int, b: int) -> list[int]:
        return (column[a:b] if len(column) != self.width else column).tolist()

    def lacking(self, wanted: Iterable[str]) -> np.ndarray:
        """Numbers of the samples that have none of the extensions ``wanted``, int64."""
        wanted = set(wanted)
        numbers = [n for n, extension in enumerate(self.extensions) if extension in wanted]
        hit = np.isin(self.extension, numbers)
        if self.width:
            return np.flatnonzero(np.broadcast_to(~hit.reshape(-1, self.width).any(axis=1), len(self)))
        assert self.first is not None
        hits = np.concatenate(([0], np.cumsum(hit)))
        return np.flatnonzero(hits[self.first[1:]] == hits[self.first[:-1]])

    def key(self, i: int, file: int) -> str:
        """Key of sample ``i``, from the tar behind the descriptor ``file``; the n-th sample of a key is ``KEY#n``.

        Raises:
            SampleError: the tar is not what its index says.
            OSError: it cannot be read.
        """
        a, b = self.span(i)
        length = self._of(self.run, a, b)[0] * BLOCK
        run = _pread(file, length, self.block.item(a) * BLOCK - length)
        try:
            key, extension = split_name(tarheader.text(tarheader.member(run)[0]))
        except ValueError:
            key = extension = ""
        if extension != self.extensions[self._of(self.extension, a, b)[0]]:
            raise SampleError("the shard is not what its index says: it was changed while it was in use")
        return self._shown(i, key)

    def read(self, i: int, file: int, mapped: mmap.mmap | None = None) -> tuple[str, dict[str, bytes]]:
        """(key, members) of sample ``i`` from the tar behind the descriptor ``file``, or in ``mapped``.

        Members that lie side by side are read at once, or copied from memory one by one. Headers are read too, and
        compared with the index.

        Raises:
            SampleError: the tar is not what its index says, or shorter.
            OSError: it cannot be read.
        """
        a, b = self.span(i)
        blocks, sizes = self.block[a:b].tolist(), self.size[a:b].tolist()
        numbers, runs = self._of(self.extension, a, b), self._of(self.run, a, b)
        begin = (blocks[0] - runs[0]) * BLOCK
        length = blocks[-1] * BLOCK + sizes[-1] - begin
        together = 0 < length <= min(AT_ONCE, 2 * sum(sizes) + _SLACK)  # as in readable_at_once
        data: bytes | mmap.mmap = b""  # slices of either are bytes
        if together and mapped is not None and begin >= 0:
            data, begin = mapped, 0
        elif together:
            data = os.pread(file, length, begin)
            if len(data) < length:  # asked here: most samples are read by one call, and must cost no more
                data = _completed(data, file, length, begin)
        found: dict[str, bytes] = {}
        key, stem = "", b""
        for block, size, number, run in zip(blocks, sizes, numbers, runs, strict=True):
            extension = self.extensions[number]
            if together:
                offset = block * BLOCK - begin
                content = data[offset : offset + size]
                whole = len(data) >= offset + size
            else:
                offset = run * BLOCK
                data = _pread(file, offset, block * BLOCK - offset)
                content = _pread(file, size, block * BLOCK)
                whole = len(data) == offset and len(content) == size
            if not whole:
                raise SampleError(f"member {extension} breaks off: the shard is not what its index says, but shorter")
            found[extension] = content
            header = data[offset - BLOCK : offset]
            # Mostly the header itself holds the name, that of the first member up to the extension, and the size.
            plain = (run == 1 or (run == 3 and _untold(data[offset - 3 * BLOCK : offset - BLOCK]))) and (
                header.startswith(b"%011o" % size, 124)
            )
            if plain and stem and header.startswith(b"%b%b\0" % (stem, extension.encode("utf-8", "surrogateescape"))):
                continue
            try:
                run_of = header if plain else data[offset - run * BLOCK : offset]
                name, stated = tarheader.member(run_of) if not plain else (tarheader.plain_name(run_of), size)
            except ValueError:
                name, stated = b"", -1
            own, suffix = split_name(tarheader.text(name))
            if suffix != extension or stated != size or (own != key and len(found) > 1):
                raise SampleError(
                    f"member {extension} is not what its index says: the shard was changed, or damaged since"
                )
            if len(found) == 1:
                key = own
                if plain and not header[345]:
                    stem = name[: len(name) - len(suffix)]
        return self._shown(i, key) if len(self.again) else key, found

    def _shown(self, i: int, key: str) -> str:
        if len(self.again):
            at = int(np.searchsorted(self.again[:, 0], i))
            if at < len(self.again) and self.again[at, 0] == i:
                return f"{key}#{self.again[at, 1]}"
        return key


def _pread(file: int, length: int, offset: int) -> bytes:
    """Up to ``length`` bytes; fewer only where the file ends."""
    data = os.pread(file, length, offset)
    return data if len(data) == length else _completed(data, file, length, offset)


def _completed(data: bytes, file: int, length: int, offset: int) -> bytes:
    """``data`` and what follows it in the file, ``length`` bytes in all if there are so many.

    A call may return less than it was asked for: Linux never gives 2 GiB at once, some network file systems less.
    """
    parts, got = [data], len(data)
    while got < length and parts[-1]:
        parts.append(os.pread(file, length - got, offset + got))
        got += len(parts[-1])
    return b"".join(parts)


def readable_at_once(length: np.ndarray, content: np.ndarray, most: int = AT_ONCE) -> np.ndarray:
    """Whether pieces of ``length`` bytes with ``content`` bytes of members are to be read at once, of any shape."""
    return (length > 0) & (length <= np.minimum(most, 2 * content + _SLACK))


def _untold(records: bytes) -> bool:
    """Whether a PAX header and the block of ``records`` behind it leave name and size to the member's own header."""
    return (
        records[156] == 120  # x
        and records.find(b"path=", BLOCK) < 0
        and records.find(b"size=", BLOCK) < 0
        and records.find(b"GNU.", BLOCK) < 0
    )
