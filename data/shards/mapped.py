"""A shard that lies in memory already, read without a system call a sample.

What the kernel keeps of a file (its page cache) can be looked at through a mapping, which takes half the time of a
read. But a mapping of what is not there waits for the disk page by page, and where the disk fails or the file was cut,
it ends the process instead of returning an error. So a file is mapped only while all of it seems to be in memory;
everything else is read.
"""

from __future__ import annotations

import mmap
import os
from math import inf
from os import SEEK_END, lseek

_PROBES = 8
_NOWAIT = getattr(os, "RWF_NOWAIT", None)  # Linux only
_POPULATE_READ = 22  # of linux/mman.h
_TRUSTED_S = 1e-3  # to copy a batch takes as long, and a file may be cut meanwhile as well


def resident(file: int, size: int) -> bool:
    """Whether ``size`` bytes behind a descriptor seem to be in memory: evenly spread ones can be read at once.

    File systems that cannot say so, such as those of a network, count as not.
    """
    if _NOWAIT is None or size < 1:
        return False
    byte = [bytearray(1)]
    try:
        for probe in range(_PROBES + 1):
            os.preadv(file, byte, (size - 1) * probe // _PROBES, _NOWAIT)
    except OSError:  # not without waiting, or not at all
        return False
    return True


class Mapped:
    """A look at an open file, for as long as it is worth it.

    Args:
        file: descriptor, which stays the caller's.
        every: uses after which to find out anew whether the file is in memory.
        first: uses before finding out for the first time; until then it is read.
    """

    __slots__ = ("_asked", "_due", "_every", "_file", "_mapping", "_size", "_view")

    def __init__(self, file: int, every: int, first: int = 0) -> None:
        self._file, self._every, self._due = file, max(1, every), first
        self._size, self._asked = 0, -inf
        self._mapping: mmap.mmap | None = None
        self._view: memoryview | None = None

    def mapping(self) -> mmap.mmap | None:
        """The file, a slice of which is a copy; None if it is to be read.

        Not to be kept: a file that is cut is mapped no more.
        """
        self._asked = -inf
        self.view(0.0)
        return self._mapping

    def view(self, now: float) -> memoryview | None:
        """All bytes of it, without a copy; to be used like :meth:`mapping`, for a millisecond.

        Args:
            now: seconds of a clock that does not go back; whether the file was cut is not asked again within one.
        """
        self._due -= 1
        if self._due < 0:
            self._due = self._every
            self._look()
        elif self._mapping is not None and now - self._asked > _TRUSTED_S:
            self._asked = now
            # Nothing reads at the descriptor's own position, and its end is had in a third of the time of a stat.
            if lseek(self._file, 0, SEEK_END) != self._size:
                self._keep(None, 0)
        return self._view

    def _look(self) -> None:
        size = os.fstat(self._file).st_size
        if not resident(self._file, size):
            self._keep(None, 0)
        elif self._mapping is None or size != self._size:
            self._keep(_map(self._file, size), size)

    def _keep(self, mapping: mmap.mmap | None, size: int) -> None:
        self._size, self._mapping = size, mapping
        self._view = None if mapping is None else memoryview(mapping)


def _map(file: int, size: int) -> mmap.mmap | None:
    try:
        mapping = mmap.mmap(file, size, prot=mmap.PROT_READ)
        # All pages at once instead of a fault for each few; what cannot be read is an error here, and no signal.
        mapping.madvise(_POPULATE_READ)
    except OSError:  # no room for it, a kernel before 5.14, a disk that fails
        return None
    return mapping
