"""How a number is spread over many samples: least, middle and greatest, in bounded memory, and mergeable."""

from __future__ import annotations

import math
from collections import Counter

_DISTINCT = 10_000


class Spread:
    """A multiset of numbers of 0 or more.

    It is exact up to ten thousand distinct values; from then on they are kept to three significant digits, while sum,
    least and greatest stay exact.

    Attributes:
        count: how many.
        total: their sum.
        least, greatest: 0 if there are none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total: float = 0
        self.least: float = 0
        self.greatest: float = 0
        self._values: Counter[float] = Counter()
        self._rounded = False

    def add(self, value: float, times: int = 1) -> None:
        """Takes in ``value``."""
        self.least = min(self.least, value) if self.count else value
        self.greatest = max(self.greatest, value) if self.count else value
        self.count += times
        self.total += value * times
        self._values[_three(value) if self._rounded else value] += times
        if len(self._values) > _DISTINCT:
            self._round()

    def merge(self, other: Spread) -> None:
        """Takes in all of ``other``."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest) if self.count else other.greatest
        self.count += other.count
        self.total += other.total
        self._values.update(other._values)
        if other._rounded or len(self._values) > _DISTINCT:
            self._round()

    def _round(self) -> None:
        rounded: Counter[float] = Counter()
        for value, times in self._values.items():
            rounded[_three(value)] += times
        self._values, self._rounded = rounded, True

    @property
    def mean(self) -> float:
        """0 if there are none."""
        return self.total / self.count if self.count else 0.0

    def at(self, share: float) -> float:
        """The value that ``share`` of the values do not exceed: 0.5 is the lower median; 0 if there are none."""
        wanted, seen = share * self.count, 0
        for value in sorted(self._values):
            seen += self._values[value]
            if seen >= wanted:
                return min(max(value, self.least), self.greatest)
        return self.greatest

    def counts(self) -> dict[float, int]:
        """Value -> how often, most frequent first; to three digits where there are very many."""
        return dict(sorted(self._values.items(), key=lambda item: (-item[1], item[0])))

    def as_json(self) -> dict[str, float]:
        """``count``, ``total``, ``min``, ``p5``, ``median``, ``p95``, ``max`` and ``mean``."""
        return {
            "count": self.count,
            "total": self.total,
            "min": self.least,
            "p5": self.at(0.05),
            "median": self.at(0.5),
            "p95": self.at(0.95),
            "max": self.greatest,
            "mean": self.mean,
        }


def _three(value: float) -> float:
    if value == 0:
        return value
    digits = 2 - math.floor(math.log10(abs(value)))
    return round(value, digits) if digits > 0 or isinstance(value, float) else int(round(value, digits))
