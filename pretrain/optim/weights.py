"""The weight of a task's loss: a number, or a ramp over the first steps. A pure function of the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data.errors import InputError, choices

KEYS = ("from", "to", "steps", "samples")


@dataclass(frozen=True)
class Weight:
    """Linear from ``begin`` in the first step to ``end`` in step ``steps`` (from 0), then ``end``."""

    begin: float
    end: float
    steps: int

    @property
    def constant(self) -> bool:
        """Whether it is the same in all steps."""
        return self.begin == self.end

    def __call__(self, step: int) -> float:
        """The weight in step ``step`` (from 0)."""
        if self.constant or step >= self.steps:
            return self.end
        return self.begin + (self.end - self.begin) * step / self.steps


def task_weight(value: Any, where: str, batch_size: int = 1) -> Weight:
    """What ``tasks.X.weight`` says: a number, ``{from: 0, to: 1, steps: 1000}``, or with ``samples`` of the task.

    Args:
        value: that.
        where: its place in the config.
        batch_size: of the task, what ``samples`` are divided by, rounded up to steps.

    Raises:
        InputError: it says neither, or a weight is negative.
    """
    if not isinstance(value, Mapping):
        return Weight(_number(value, where), float(value), 0)
    for key in value:
        if key not in KEYS:
            raise InputError(f"unknown key '{where}.{key}'; {choices(str(key), KEYS)}")
    lengths = [key for key in ("steps", "samples") if key in value]
    if len(lengths) != 1 or not {"from", "to"} <= value.keys():
        raise InputError(f"{where} is {dict(value)}; give a number, or from, to, and either steps or samples")
    unit = lengths[0]
    length = value[unit]
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise InputError(f"{where}.{unit}={length!r} is no number of {unit} of 1 or more")
    steps = length if unit == "steps" else -(-length // batch_size)
    return Weight(_number(value["from"], f"{where}.from"), _number(value["to"], f"{where}.to"), steps)


def check_weight(value: Any, where: str) -> None:
    """Raises what :func:`task_weight` raises."""
    task_weight(value, where)


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"{where}: {value!r} is no number, nor {{from, to, steps}}")
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{where}={value} is no finite number")
    if value < 0:
        raise InputError(f"{where}={value} is too small; it must be at least 0")
    return float(value)
