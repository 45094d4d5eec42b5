"""Draws from several sources in a fixed proportion, exact at any position and the same on any number of devices."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from data.errors import InputError
from data.order import permute
from data.seeds import derive

BLOCK = 1024


class Mixture:
    """Which source a position belongs to, and which position of that source it is.

    Positions come in blocks of 1024; within a block the sources have their exact share (up to rounding, which later
    blocks make up for), in an order shuffled a block. Both directions are closed formulas.

    Args:
        weights: one a source, above 0; only their proportion counts.
        seed: of the run and the task.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        if not weights or min(weights) <= 0 or not np.isfinite(weights).all():
            raise InputError(f"source weights must be above 0, got {list(weights)}")
        self.seed = seed
        exact = [Fraction(str(float(weight))) for weight in weights]
        # The share of each source of what the sources before it leave over; the last one takes the rest.
        self.shares = [weight / sum(exact[number:]) for number, weight in enumerate(exact)]

    def _before(self, block: int) -> np.ndarray:
        """How many positions each source has had before ``block``, (S,) int64."""
        left, counts = block * BLOCK, []
        for share in self.shares:
            counts.append(left * share.numerator // share.denominator)
            left -= counts[-1]
        return np.array(counts, dtype=np.int64)

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(source number, position within the source) at each of ``positions``, int64."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(self.shares) == 1:
            return np.zeros_like(positions), positions
        sources, inner = np.empty_like(positions), np.empty_like(positions)
        blocks, places = np.divmod(positions, BLOCK)
        for block in np.unique(blocks):
            here = blocks == block
            before, after = self._before(int(block)), self._before(int(block) + 1)
            dealt = np.repeat(np.arange(len(before)), after - before)
            dealt = dealt[permute(np.arange(BLOCK), BLOCK, derive(self.seed, "block", int(block)))]
            count = np.empty(BLOCK, dtype=np.int64)
            for source in range(len(before)):
                own = dealt == source
                count[own] = before[source] + np.arange(own.sum())
            sources[here], inner[here] = dealt[places[here]], count[places[here]]
        return sources, inner
