"""Who attends to whom inside sequences that lie end to end."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from modalities.layout import Layout


class Tile(NamedTuple):
    """Query rows that attend to one run of key rows; ``times`` such pairs of ``queries`` and ``keys`` rows in a row.

    Attributes:
        query, key: first row of each.
        queries, keys: number of rows.
        causal: whether query i sees keys 0..i alone.
        mask: (queries, keys) bool, or None where all are seen.
        times: equal tiles that follow one another without a gap.
    """

    query: int
    queries: int
    key: int
    keys: int
    causal: bool
    mask: Tensor | None
    times: int = 1


class Reach:
    """Each row sees the rows of its own sequence, with ``causal`` no later ones, with a ``window`` no farther ones.

    Made once a forward and shared by the blocks of one kind, so that masks are made once.

    Args:
        layout: of the rows.
        causal: a row sees itself and earlier ones.
        window: largest distance that is seen, 0 for any.
    """

    def __init__(self, layout: Layout, causal: bool = False, window: int = 0) -> None:
        self.layout = layout
        self.causal = causal
        self.longest = max(layout.lengths)
        self.window = window if self.longest > window + 1 else 0

    @cached_property
    def starts(self) -> Tensor:
        """(B + 1,) int32 first rows, as variable-length kernels want them."""
        return self.layout.offsets.to(torch.int32)

    @cached_property
    def sides(self) -> tuple[int, int]:
        """How far back and ahead a row sees; -1 is any distance."""
        back = self.window or -1
        return back, 0 if self.causal else back

    def band(self, queries: int, keys: int, lead: int, device: torch.device) -> Tensor:
        """(queries, keys) bool: what is seen where query 0 stands ``lead`` rows after key 0."""
        ahead = torch.arange(keys, device=device)[None] - torch.arange(lead, lead + queries, device=device)[:, None]
        seen = torch.ones_like(ahead, dtype=torch.bool)
        if self.window:
            seen &= ahead.abs() <= self.window
        if self.causal:
            seen &= ahead <= 0
        return seen

    @cached_property
    def padded(self) -> Tensor | None:
        """(B or 1, 1, N, N) bool mask of the sequences padded to the longest, N; None where everything is seen."""
        device = self.layout.device
        mask = self.band(self.longest, self.longest, 0, device) if self.causal or self.window else None
        if self.layout.uniform is not None:
            return None if mask is None else mask[None, None]
        there = torch.arange(self.longest, device=device)[None] < self.layout.offsets.diff()[:, None]
        return there[:, None, None] if mask is None else there[:, None, None] & mask

    @cached_property
    def tiles(self) -> list[Tile]:
        """The pairs of query and key runs that cover everything seen; each query row is in one tile alone."""
        found: list[Tile] = []
        begin = 0
        for length, count in _runs(self.layout.lengths):
            if not self.window or length <= self.window + 1:
                found.append(Tile(begin, length, begin, length, self.causal, None, count))
            else:
                for place in range(begin, begin + length * count, length):
                    found.extend(self._banded(place, length))
            begin += length * count
        return found

    def _banded(self, begin: int, length: int) -> list[Tile]:
        # Blocks of two windows: each then looks at four windows of keys at most, half of which it sees.
        size = max(2 * self.window, 64)
        tiles = []
        for first in range(0, length, size):
            queries = min(size, length - first)
            low = max(0, first - self.window)
            keys = min(length, first + queries + (0 if self.causal else self.window)) - low
            tiles.append(Tile(begin + first, queries, begin + low, keys, False, self._mask(queries, keys, first - low)))
        return tiles

    def _mask(self, queries: int, keys: int, lead: int) -> Tensor:
        key = (queries, keys, lead)
        if key not in self._masks:
            self._masks[key] = self.band(*key, torch.device("cpu"))
        return self._masks[key]

    @cached_property
    def _masks(self) -> dict[tuple[int, int, int], Tensor]:
        return {}


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Neighbours of one length, as (length, how many)."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs
