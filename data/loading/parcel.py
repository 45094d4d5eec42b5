"""Units that a worker hands on together: what is made in microseconds would be handed on at its own price again."""

from __future__ import annotations

import time

import numpy as np

from data.loading.transport import Packed, Slab
from data.loading.unit import Unit

# A parcel is closed once its units took this long to make or are this large. So a trainer waits hardly longer for the
# first of them, and micro-batches that are decoded, or large, travel alone.
_LONG_S, _LARGE = 2e-3, 8 << 20
_ALIGN = 64


class Parcel:
    """Consecutive units of one worker, one after the other in a slab.

    Args:
        slab: of which nothing is needed any more.

    Attributes:
        units: those in it.
    """

    def __init__(self, slab: Slab) -> None:
        slab.clear()
        self.units: list[Unit] = []
        self._slab, self._begin, self._end = slab, 0, 0
        self._closes = time.perf_counter() + _LONG_S

    @property
    def full(self) -> bool:
        """Whether it is to be handed on."""
        failed = bool(self.units) and self.units[-1].failure is not None
        return failed or self._begin >= _LARGE or time.perf_counter() >= self._closes

    def memory(self, size: int) -> np.ndarray:
        """(size,) uint8 for the unit that is made now; asked again for more, it is the same memory, grown."""
        self._end = max(self._end, self._begin + size)
        return self._slab.memory(self._begin + size)[self._begin :]

    def add(self, unit: Unit) -> None:
        """Puts in what was made in :meth:`memory`."""
        self.units.append(unit)
        self._begin = self._end = -(-self._end // _ALIGN) * _ALIGN

    def packed(self) -> Packed:
        """The list of its units, which lies in the slab now."""
        packed = Packed(self.units, self._slab)
        packed.write(self._slab.memory(packed.size))
        return packed
