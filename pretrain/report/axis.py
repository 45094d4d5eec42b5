"""Axes: from values to places between 0 and 1000, and the round numbers beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable

SIDE = 1000
_LOG_FROM = 25
"""A range that spans more than this factor above zero is logarithmic."""


class Axis:
    """Linear, or logarithmic where all values are positive and far apart.

    Args:
        values: that must lie on it.
        log: whether it may be logarithmic.
        room: share of the range that stays free at both ends.
    """

    def __init__(self, values: Iterable[float], log: bool = True, room: float = 0.06) -> None:
        found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(found), max(found)
        self.log = log and low > 0 and high / low > _LOG_FROM
        low, high = (math.log10(low), math.log10(high)) if self.log else (low, high)
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        spare = room * (high - low)
        # A curve that does not go below zero has no use for room there.
        self.low = max(0.0, low - spare) if low >= 0 and not self.log else low - spare
        self.high = high + spare

    def at(self, value: float) -> float:
        """Place of ``value``, 0 at the low end."""
        if self.log:
            value = math.log10(value) if value > 0 else self.low
        return SIDE * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """(place, text) of round numbers."""
        if self.log:
            powers = range(math.ceil(self.low), math.floor(self.high) + 1)
            if len(powers) >= 2:
                stride = -(-len(powers) // most)
                return [(self.at(10.0**power), words(10.0**power)) for power in powers[::stride]]
            low, high = 10**self.low, 10**self.high
        else:
            low, high = self.low, self.high
        step = _round_step((high - low) / most)
        numbers = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return [(self.at(number), words(number)) for number in numbers if not self.log or number > 0]


def words(value: float) -> str:
    """A number in few characters: ``1.2k``, ``0.034``, ``3e-05``."""
    if value == 0:
        return "0"
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scale = 1e3 if unit == "k" else limit
            return f"{value / scale:.3g}{unit}"
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 1e-4 else f"{value:.1e}".replace("e-0", "e-")


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
