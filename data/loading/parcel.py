"""Units that a worker hands on together: what is made in microseconds would be handed on at its own price again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from data.loading.transport import Packed, Slab
from data.loading.unit import Unit

LONG_S = 2e-3
"""A parcel is closed once its units took this long to make. What is ready waits no longer, but for a unit that takes
long when none of its place in a step did before; a worker that dies takes along what it had not handed on."""
MOST, LEAST = 32 << 20, 1 << 18
"""Bytes of a worker's parcels together, as far as its units are not larger, and what one of them may always have."""
_ALIGN = 64


def bytes_each(slabs: int) -> int:
    """With how many a parcel is full, where a worker has so many slabs."""
    return max(LEAST, MOST // slabs)


class Parcel:
    """Consecutive units of one worker, one after the other in a slab.

    Args:
        slab: of which nothing is needed any more.
        large: bytes with which it is full.

    Attributes:
        units: those in it.
    """

    def __init__(self, slab: Slab, large: int) -> None:
        slab.clear()
        self.units: list[Unit] = []
        self._slab, self._large = slab, large
        self._begin = self._end = self._size = 0
        self._closes = time.perf_counter() + LONG_S

    @property
    def full(self) -> bool:
        """Whether it is to be handed on."""
        failed = bool(self.units) and self.units[-1].failure is not None
        return failed or max(self._begin, self._size) >= self._large or time.perf_counter() >= self._closes

    def memory(self, size: int) -> np.ndarray:
        """(size,) uint8 for the unit that is made now; asked again for more, it is the same memory, grown."""
        self._end = max(self._end, self._begin + size)
        return self._slab.memory(self._begin + size)[self._begin :]

    def add(self, unit: Unit) -> None:
        """Puts in what was made, in :meth:`memory` or elsewhere."""
        self.units.append(unit)
        self._begin = self._end = -(-self._end // _ALIGN) * _ALIGN
        self._size += _size(unit.batch)

    def packed(self) -> Packed:
        """The list of its units, which lies in the slab now."""
        packed = Packed(self.units, self._slab)
        packed.write(self._slab.memory(packed.size))
        return packed


def _size(value: Any) -> int:
    """Bytes of what may be large in a micro-batch."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.nbytes
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int):
        return sum(map(_size, value))
    return 0
