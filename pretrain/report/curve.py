"""A metric over steps, thinned out to what a picture can show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

POINTS = 240
SMOOTH = 20
"""The smooth line is a mean over one in so many of the points on either side and around."""


class Curve(NamedTuple):
    """``values`` at ``steps``, ascending; ``smooth`` the same without its noise, empty where there is none to take."""

    steps: list[float]
    values: list[float]
    smooth: list[float]

    @property
    def last(self) -> float:
        """The value at the end, of the smooth line where there is one."""
        return (self.smooth or self.values)[-1]


def curve_of(points: Iterable[tuple[int, float]], noisy: bool = True, at_most: int = POINTS) -> Curve | None:
    """The mean of each of ``at_most`` equal spans of steps; None where there is no finite value."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return None
    first, last = finite[0][0], finite[-1][0]
    width = max(1.0, (last - first + 1) / at_most)
    spans: dict[int, list[tuple[int, float]]] = {}
    for step, value in finite:
        spans.setdefault(int((step - first) / width), []).append((step, value))
    means = [(sum(s for s, _ in span) / len(span), sum(v for _, v in span) / len(span)) for span in spans.values()]
    steps, values = [step for step, _ in means], [value for _, value in means]
    steps[-1] = last
    return Curve(steps, values, _smooth(values) if noisy and len(values) > SMOOTH else [])


def _smooth(values: list[float]) -> list[float]:
    """Means over a window that shrinks to one side at both ends, so that it ends where the curve does."""
    reach = max(1, len(values) // (2 * SMOOTH))
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    found = []
    for place in range(len(values)):
        begin, end = max(0, place - reach), min(len(values), place + reach + 1)
        found.append((sums[end] - sums[begin]) / (end - begin))
    return found
