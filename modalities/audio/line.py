"""Clips that are made one after the other and lie so in memory: then a batch of them is there without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_

import numpy as np

from data.loading.room import Room, room


class Line:
    """Where the clips of a micro-batch are written, each followed by zeros up to a multiple of ``hop``.

    How long all of them will be is not known before: there is room for as much as any micro-batch before had, and a
    clip for which none is left lies elsewhere. Outside of a loader each lies by itself, and so it does from then on
    where others are made of all clips of a micro-batch (augmented ones, say).

    Args:
        hop: in samples.
    """

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self._most = 0
        self._of_use = True
        self._clear(None)

    def _clear(self, now: Room | None) -> None:
        self._room = now
        size = 4 * self._most if self._of_use else 0
        self._memory = now.take(size).view(np.float32) if now and size else np.empty(0, np.float32)
        self._placed: list[np.ndarray] = []
        self._end = 0

    def __reduce__(self) -> tuple[type[Line], tuple[int]]:
        # A copy has its own clips, and learns by itself how long they are.
        return Line, (self.hop,)

    def place(self, samples: int) -> np.ndarray:
        """(samples,) float32, uninitialised, for the next clip."""
        now = room()
        if now is not self._room:
            self._clear(now)
        begin, end = self._end, self._end + -(-samples // self.hop) * self.hop
        if end > len(self._memory):
            return np.empty(samples, dtype=np.float32)
        self._end = end
        self._memory[begin + samples : end] = 0
        placed = self._memory[begin : begin + samples]
        self._placed.append(placed)
        return placed

    def joined(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """(S,) float32: ``clips`` one after the other, with their zeros; they themselves where they stand in line."""
        sizes = [-(-len(clip) // self.hop) * self.hop for clip in clips]
        total, self._most = sum(sizes), max(self._most, sum(sizes))
        if self._in_line(clips):
            return self._memory[:total]
        self._of_use &= not self._placed or any(np.may_share_memory(clip, self._memory) for clip in clips)
        wave, begin = np.zeros(total, dtype=np.float32), 0
        for clip, size in zip(clips, sizes, strict=True):
            wave[begin : begin + len(clip)] = clip
            begin += size
        return wave

    def _in_line(self, clips: Sequence[np.ndarray]) -> bool:
        placed = self._placed
        if self._room is None or self._room is not room() or len(clips) != len(placed):
            return False
        return all(map(is_, clips, placed))
