"""Memory in which a micro-batch is made, for a prepare that knows where a tensor of it will lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import numpy as np

from data.loading.block import Memory

_ALIGN = 64


class Room:
    """What the micro-batch that is being made may be written to, so that it need not be copied to where it goes.

    Args:
        memory: see :data:`data.loading.block.Memory`; None: any.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory, self._end = memory, 0

    def take(self, size: int) -> np.ndarray:
        """(size,) uint8, uninitialised, that nothing else of this micro-batch lies in."""
        if self._memory is None:
            return np.empty(size, dtype=np.uint8)
        begin = self._end
        self._end = begin + -(-size // _ALIGN) * _ALIGN
        return self._memory(self._end)[begin : begin + size]


class _Here(local):
    room: Room | None = None


_here = _Here()


def room() -> Room | None:
    """Of the micro-batch that this thread makes; None where it makes none."""
    return _here.room


@contextmanager
def making(memory: Memory | None = None) -> Iterator[None]:
    """A micro-batch is made in this context, and its memory is not needed before."""
    _here.room = Room(memory)
    try:
        yield
    finally:
        _here.room = None
