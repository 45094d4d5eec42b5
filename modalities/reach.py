"""Who attends to whom inside sequences that lie end to end."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from modalities.layout import Layout

_CUT = range(256, 768)
"""Lengths of causal sequences that are cut: torch's kernel for CPU compares 512 keys at a time, seen or not, and takes
enough queries at a time to make up for it from 768 on."""
_QUERIES = 128
"""Most rows of a cut: with fewer the products get small, with more more keys are compared than are seen."""


class Tile(NamedTuple):
    """Query rows that attend to one run of key rows; ``times`` such pairs of ``queries`` and ``keys`` rows in a row.

    Attributes:
        query, key: first row of each.
        queries, keys: number of rows.
        causal: whether query i sees keys 0..i alone.
        lead: rows from the first key to the first query where a mask is wanted, else None.
        times: equal tiles that follow one another without a gap.
    """

    query: int
    queries: int
    key: int
    keys: int
    causal: bool
    lead: int | None = None
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
        for tile in self.whole:
            length = tile.queries
            places = range(tile.query, tile.query + length * tile.times, length)
            if self.window and length > self.window + 1:
                found += [part for place in places for part in self._banded(place, length)]
            elif self.causal and length in _CUT:
                found += [part for place in places for part in self._cut(place, length)]
            else:
                found.append(tile)
        return found

    @cached_property
    def whole(self) -> list[Tile]:
        """A tile for each run of sequences of one length, as if there were no window."""
        found: list[Tile] = []
        begin = 0
        for length, count in _runs(self.layout.lengths):
            found.append(Tile(begin, length, begin, length, self.causal, None, count))
            begin += length * count
        return found

    def mask(self, tile: Tile, dtype: torch.dtype) -> Tensor | None:
        """(queries, keys) numbers to add to scores, 0 or minus infinity; None where the tile needs none."""
        if tile.lead is None:
            return None
        if dtype not in self._bands:
            # One for all tiles: what a query sees depends on distance alone.
            seen = self.band(self._rows, self._back + self._rows + self._ahead, self._back, torch.device("cpu"))
            self._bands[dtype] = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, float("-inf"))
        first = self._back - tile.lead
        return self._bands[dtype][: tile.queries, first : first + tile.keys]

    @cached_property
    def _bands(self) -> dict[torch.dtype, Tensor]:
        return {}

    @property
    def _rows(self) -> int:
        # With a window blocks of two windows: each then looks at four windows of keys at most, half of which it sees.
        return max(2 * self.window, 64) if self.window else _QUERIES

    @property
    def _back(self) -> int:
        return self.window or min(self.longest, _CUT.stop)

    @property
    def _ahead(self) -> int:
        return 0 if self.causal else self.window

    def _banded(self, begin: int, length: int) -> list[Tile]:
        tiles = []
        for first in range(0, length, self._rows):
            queries = min(self._rows, length - first)
            low = max(0, first - self.window)
            keys = min(length, first + queries + self._ahead) - low
            tiles.append(Tile(begin + first, queries, begin + low, keys, False, first - low))
        return tiles

    def _cut(self, begin: int, length: int) -> list[Tile]:
        rows = -(-length // -(-length // _QUERIES))  # cuts of one size, nearly
        tiles = [Tile(begin, rows, begin, rows, True)]
        for first in range(rows, length, rows):
            queries = min(rows, length - first)
            tiles.append(Tile(begin + first, queries, begin, first + queries, False, first))
        return tiles


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Neighbours of one length, as (length, how many)."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs
