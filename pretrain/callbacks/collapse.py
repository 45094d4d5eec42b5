"""Says when a run leaves the band in which a healthy one of its kind lies: wav2vec 2.0's codes collapse quietly.

A reference is JSON, made by ``scripts/reference_curve.py`` from runs that went well: for each metric the values at some
steps, and the lowest and highest that still count as healthy there.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from data.errors import InputError, choices
from data.loading.loader import StepBatch
from pretrain.callbacks.metrics import Metrics
from pretrain.module import Pretraining
from pretrain.run import EVENTS, METRICS, RunDirectory

log = logging.getLogger("pretrain")

LEFT, BACK = "left_band", "back_in_band"
_SHIPPED = resources.files("modalities.audio") / "reference"


@dataclass(frozen=True)
class Band:
    """What is healthy at each step, straight lines between the ``steps`` (ascending) that are given.

    Attributes:
        steps, low, high: of equal length; a bound is NaN where there is none.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, step: int) -> tuple[float, float] | None:
        """(lowest, highest) at ``step``; None before the first one. The last ones hold from there on."""
        if step < self.steps[0]:
            return None
        return float(np.interp(step, self.steps, self.low)), float(np.interp(step, self.steps, self.high))

    def outside(self, step: int, value: float) -> bool:
        """Whether ``value`` is too low or too high at ``step``; a bound that is NaN says no."""
        bounds = self.at(step)
        return bounds is not None and (value < bounds[0] or value > bounds[1])


class Collapse(pl.Callback):
    """Compares the mean of the last ``window`` rows of a task's metrics with a reference at each row.

    When a metric leaves its band and when it comes back, a warning goes to the log and a row to ``events.jsonl``:
    ``step``, ``event`` (``left_band`` or ``back_in_band``), ``task``, ``metric``, ``value``, ``low``, ``high``. The run
    goes on. What is in these files alone decides, so that a run that was interrupted says the same.

    Args:
        directory: of the run.
        metrics: the callback that has written the step's row; this one must come behind it.
        task: whose metrics.
        reference: name of a shipped curve, or path of a JSON file.
        window: rows of ``metrics.jsonl`` that are averaged.

    Raises:
        InputError: there is no such reference, or it cannot be read.
    """

    def __init__(self, directory: RunDirectory, metrics: Metrics, task: str, reference: str, window: int = 20) -> None:
        if window < 1:
            raise InputError(f"window={window} is not 1 or more")
        self.directory, self.metrics, self.task, self.reference = directory, metrics, task, reference
        self.bands = read_bands(reference)
        self.recent: dict[str, deque[float]] = {name: deque(maxlen=window) for name in self.bands}
        self.out: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up what the rows so far say.

        Raises:
            InputError: the run has no such task.
        """
        assert isinstance(pl_module, Pretraining)
        if self.task not in pl_module.model.tasks:
            raise InputError(f"alarms: task '{self.task}' is not there; {choices(self.task, pl_module.model.tasks)}")
        if not trainer.is_global_zero:
            return
        for row in self.directory.rows(METRICS):
            self._note(row)
        for row in self.directory.rows(EVENTS):
            if row.get("task") == self.task and row.get("metric") in self.bands:
                (self.out.add if row["event"] == LEFT else self.out.discard)(row["metric"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Compares if the step has a row."""
        assert isinstance(pl_module, Pretraining)
        step = pl_module.steps_done
        due = step % self.metrics.every_n_steps == 0 or bool(pl_module.held_out)
        if not due or not trainer.is_global_zero:
            return
        self._note(self.metrics.row)
        for name, band in self.bands.items():
            values = self.recent[name]
            if len(values) < (values.maxlen or 1):
                continue
            value = float(np.mean(values))
            outside = band.outside(step, value)
            if outside != (name in self.out):
                (self.out.add if outside else self.out.discard)(name)
                self._tell(step, name, value, band.at(step), outside)

    def _note(self, row: Mapping[str, Any]) -> None:
        for name, values in self.recent.items():
            if f"{self.task}/{name}" in row:
                values.append(float(row[f"{self.task}/{name}"]))

    def _tell(self, step: int, name: str, value: float, bounds: tuple[float, float] | None, outside: bool) -> None:
        low, high = (None if bound != bound else bound for bound in bounds or (float("nan"),) * 2)
        where = {"step": step, "event": LEFT if outside else BACK, "task": self.task, "metric": name}
        self.directory.append(EVENTS, where | {"value": value, "low": low, "high": high})
        healthy = " to ".join("any" if bound is None else f"{bound:.3g}" for bound in (low, high))
        told = f"step {step}: {self.task}/{name} is {value:.3g}, healthy runs ({self.reference}) have {healthy}"
        if outside:
            log.warning("%s; the run goes on, but looks like a collapse", told)
        else:
            log.info("%s: back in the band", told)


def read_bands(reference: str) -> dict[str, Band]:
    """Metric -> band of the shipped curve ``reference``, or of the JSON file of that path.

    Raises:
        InputError: it is not there or no reference.
    """
    path = Path(reference).expanduser()
    shipped = {entry.name.removesuffix(".json") for entry in _SHIPPED.iterdir() if entry.name.endswith(".json")}
    if not path.is_file() and reference not in shipped:
        raise InputError(f"reference '{reference}' is neither a file nor shipped; {choices(reference, shipped)}")
    source = _SHIPPED / f"{reference}.json" if reference in shipped else path
    try:
        found = {name: _band(curve) for name, curve in json.loads(source.read_text())["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"reference '{reference}' is no reference curve: {type(error).__name__}: {error}") from None
    if not found:
        raise InputError(f"reference '{reference}' has no metrics")
    return found


def _band(curve: Mapping[str, Any]) -> Band:
    steps = tuple(int(step) for step in curve["steps"])
    low, high = (tuple(float("nan") if v is None else float(v) for v in curve[side]) for side in ("low", "high"))
    if not steps or sorted(set(steps)) != list(steps) or not len(steps) == len(low) == len(high):
        raise ValueError("steps must ascend, with one low and one high each")
    return Band(steps, low, high)
