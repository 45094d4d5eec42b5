"""What a run's numbers were in the last steps, and how far above them one is no longer believable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LAG = 2
"""A step is judged by steps that ended at least so many before it: on a device, the step before is still running."""

_SIGMA = 1.4826  # of a normal distribution, in median absolute deviations
_FLOOR = 0.01  # least spread, as a share of the median: a loss that stands still would make any noise a spike
_LEAST = 4  # a quarter of the window must be known before anything is judged


class History:
    """Bounds from the median and the median absolute deviation of a window of steps (Hampel 1974).

    A mean and a standard deviation would follow the very spikes they are to find; half of the window may be spikes
    before a median does.

    Args:
        names: of the numbers, in the order of the values of a step.
        window: steps that count.
        factor: robust standard deviations above the median that are still believed.
    """

    def __init__(self, names: Sequence[str], window: int, factor: float) -> None:
        self.names, self.window, self.factor = tuple(names), window, factor
        self._clear()

    def _clear(self) -> None:
        self._steps = np.empty(0, dtype=np.int64)
        self._rows = np.empty((0, len(self.names)))

    def add(self, step: int, values: Sequence[float]) -> None:
        """Takes up what was measured in ``step``; a step with a number that is not finite does not count."""
        if all(map(math.isfinite, values)):
            keep = self.window + LAG
            self._steps = np.append(self._steps, step)[-keep:]
            self._rows = np.append(self._rows, [values], axis=0)[-keep:]

    def bounds(self, step: int) -> np.ndarray | None:
        """(number of names,) float64: the largest believable values in ``step``; None while too little is known."""
        known = int(np.searchsorted(self._steps, step - LAG, side="right"))
        rows = self._rows[max(0, known - self.window) : known]
        if len(rows) * _LEAST < self.window:
            return None
        middle = len(rows) // 2
        median = np.sort(rows, axis=0)[middle]
        deviation = np.sort(np.abs(rows - median), axis=0)[middle]
        bounds: np.ndarray = median + self.factor * np.maximum(_SIGMA * deviation, _FLOOR * np.abs(median))
        return bounds

    def state(self) -> dict[str, Any]:
        """For a checkpoint, JSON: floats come back as they were."""
        return {"names": list(self.names), "steps": self._steps.tolist(), "rows": self._rows.tolist()}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Puts back what :meth:`state` gave; begins anew where it is of other numbers (another set of tasks)."""
        self._clear()
        if state and tuple(state["names"]) == self.names and state["steps"]:
            self._steps = np.array(state["steps"], dtype=np.int64)
            self._rows = np.array(state["rows"], dtype=np.float64)
