"""Draws from several sources in a fixed proportion, exact at any position and the same on any number of devices."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from data.errors import InputError
from data.order.permutation import permute
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
        self._block: tuple[int, tuple[np.ndarray, np.ndarray]] = -1, (np.empty(0), np.empty(0))

    def _before(self, block: int) -> np.ndarray:
        """How many positions each source has had before ``block``, (S,) int64."""
        left, counts = block * BLOCK, []
        for share in self.shares:
            counts.append(left * share.numerator // share.denominator)
            left -= counts[-1]
        return np.array(counts, dtype=np.int64)

    def _dealt(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(source, how many of it came before) at each of the 1024 positions of ``block``, int64."""
        before, after = self._before(block), self._before(block + 1)
        dealt = np.repeat(np.arange(len(before)), after - before)
        dealt = dealt[permute(np.arange(BLOCK), BLOCK, derive(self.seed, "block", block))]
        count = np.empty(BLOCK, dtype=np.int64)
        for source in range(len(before)):
            own = dealt == source
            count[own] = before[source] + np.arange(own.sum())
        return dealt, count

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(source number, position within the source) at each of ``positions``, int64."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(self.shares) == 1:
            return np.zeros_like(positions), positions
        sources, inner = np.empty_like(positions), np.empty_like(positions)
        blocks, places = np.divmod(positions, BLOCK)
        for block in np.unique(blocks).tolist():
            if block != self._block[0]:  # consecutive calls ask for the same one
                self._block = block, self._dealt(block)
            here = blocks == block
            dealt, count = self._block[1]
            sources[here], inner[here] = dealt[places[here]], count[places[here]]
        return sources, inner

    def counts(self, position: int) -> list[int]:
        """How many samples of each source come before ``position``."""
        if len(self.shares) == 1:
            return [position]
        block, place = divmod(position, BLOCK)
        within = np.bincount(self._dealt(block)[0][:place], minlength=len(self.shares))
        return (self._before(block) + within).tolist()


def weights_by_size(weights: Sequence[float], sizes: Sequence[int], alpha: float | None) -> list[float]:
    """Weights times ``n ** alpha`` for sources of n samples; ``alpha=None`` leaves them as they are.

    The sampling of languages by Conneau and Lample (2019, section 3.1: p_i ~ n_i^alpha): 1 draws in proportion to
    size, less than 1 raises the share of small sources. Six digits are kept, so that every machine finds the same.

    Raises:
        InputError: ``alpha`` is not between 0 and 1.
    """
    if alpha is None:
        return list(weights)
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha={alpha} is not between 0 (sources alike) and 1 (in proportion to their size)")
    # Relative to the largest: sizes have up to 13 digits.
    largest = max(sizes)
    return [float(f"{w * (n / largest) ** alpha:.6g}") for w, n in zip(weights, sizes, strict=True)]
