"""Alarms on metrics that leave the band in which they are healthy."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl

from data.errors import InputError, choices
from data.loading.loader import StepBatch
from pretrain.callbacks.metrics import Metrics
from pretrain.module import Pretraining
from pretrain.run import EVENTS, METRICS, RunDirectory
from pretrain.soundness.incidents import Incidents
from pretrain.soundness.policies import POLICIES, WARN

log = logging.getLogger("pretrain")

LEFT, BACK = "left_band", "back_in_band"


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


class BandAlarm(pl.Callback):
    """Compares the mean of the last ``window`` rows of a task's metrics with a band at each row.

    When a metric leaves its band, the policy is answered and a row goes to ``events.jsonl``: ``step``, ``event``
    (``left_band``), ``task``, ``metric``, ``value``, ``low``, ``high``, ``policy`` and ``samples``; another one
    (``back_in_band``) when it comes back. What is in the run's files alone decides, so that a run that was interrupted
    says the same.

    Args:
        directory: of the run.
        metrics: the callback that has written the step's row; this one must come behind it.
        incidents: where to report.
        task: whose metrics.
        bands: metric -> its band.
        window: rows of ``metrics.jsonl`` that are averaged.
        policy: ``warn``, ``skip`` (leave out the samples that follow, see ``sick.rewind.skip_beyond``), ``rewind`` or
            ``stop``.

    Raises:
        InputError: no such policy, or no window.
    """

    likely: ClassVar[str] = "looks like a collapse"
    healthy: str = "healthy runs have"

    def __init__(
        self,
        directory: RunDirectory,
        metrics: Metrics,
        incidents: Incidents,
        task: str,
        bands: Mapping[str, Band],
        window: int,
        policy: str,
    ) -> None:
        if window < 1:
            raise InputError(f"window={window} is not 1 or more")
        if policy not in POLICIES:
            raise InputError(f"policy '{policy}' is not there; {choices(policy, POLICIES)}")
        self.directory, self.metrics, self.incidents = directory, metrics, incidents
        self.task, self.bands, self.policy = task, dict(bands), policy
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
        self.out.clear()
        for values in self.recent.values():
            values.clear()
        for row in self.directory.rows(METRICS):
            self._note(row)
        for row in self.directory.rows(EVENTS):
            if row.get("task") == self.task and row.get("metric") in self.bands:
                (self.out.add if row["event"] == LEFT else self.out.discard)(row["metric"])

    def on_gone_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins again with what is left of the rows."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Compares if the step has a row."""
        assert isinstance(pl_module, Pretraining)
        if not trainer.is_global_zero or not self.metrics.due(pl_module):
            return
        step = pl_module.steps_done
        self._note(self.metrics.row)
        for name, band in self.bands.items():
            values = self.recent[name]
            if len(values) < (values.maxlen or 1):
                continue
            value = float(np.mean(values))
            outside = band.outside(step, value)
            if outside != (name in self.out):
                (self.out.add if outside else self.out.discard)(name)
                self._tell(pl_module, name, value, band.at(step), outside)

    def _note(self, row: Mapping[str, Any]) -> None:
        for name, values in self.recent.items():
            if f"{self.task}/{name}" in row:
                values.append(float(row[f"{self.task}/{name}"]))

    def _tell(
        self, module: Pretraining, name: str, value: float, bounds: tuple[float, float] | None, outside: bool
    ) -> None:
        low, high = (None if bound != bound else bound for bound in bounds or (float("nan"),) * 2)
        what = LEFT if outside else BACK
        event = {"event": what, "task": self.task, "metric": name, "value": value, "low": low, "high": high}
        healthy = " to ".join("any" if bound is None else f"{bound:.3g}" for bound in (low, high))
        told = f"{self.task}/{name} is {value:.3g}, {self.healthy} {healthy}"
        step = module.steps_done
        if outside:
            reason = f"{told}; it {self.likely}" + ("; the run goes on" if self.policy == WARN else "")
            self.incidents.report(module.start, step, event, self.policy, reason)
        else:
            self.directory.append(EVENTS, {"step": step, **event})
            log.info("step %d: %s: back in the band", step, told)
