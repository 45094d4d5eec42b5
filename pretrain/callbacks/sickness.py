"""Looks at what the guard has seen: losses and gradients that are no numbers, and spikes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.callbacks.metrics import Metrics
from pretrain.module import Pretraining
from pretrain.soundness.guard import Reading
from pretrain.soundness.incidents import Incidents
from pretrain.soundness.policies import REWIND, SKIP, STOP, WARN


class Sickness(pl.Callback):
    """Reports sick steps; whatever the policy, an update that is no number has been left out already.

    Rows of ``events.jsonl``: ``step``, ``event`` (``nonfinite`` or ``spike``), ``values`` (name -> number, or "nan",
    "inf"), ``bounds`` of a spike, ``skipped`` (whether the update was left out), ``policy`` and ``samples``.

    Args:
        incidents: where to.
        metrics: knows which steps have a row, for which the device is waited for anyway.
        save_every_n_steps: what a checkpoint follows is looked at before it.
        nonfinite: policy; ``warn`` leaves updates out without end, ``skip`` at most ``max_skips`` in a row.
        spike: policy, or ``off``; ``warn`` lets the update be made.
        patience: steps in a row above the bound before ``rewind`` or ``stop`` is asked for.
        max_skips: updates left out in a row; one more ends the run.
    """

    def __init__(
        self,
        incidents: Incidents,
        metrics: Metrics,
        save_every_n_steps: int,
        nonfinite: str,
        spike: str,
        patience: int,
        max_skips: int,
    ) -> None:
        self.incidents, self.metrics, self.save_every_n_steps = incidents, metrics, save_every_n_steps
        self.nonfinite, self.spike, self.patience, self.max_skips = nonfinite, spike, patience, max_skips

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Looks at the steps whose numbers have arrived."""
        assert isinstance(pl_module, Pretraining)
        self.look(pl_module, everything=self._due(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is left unread."""
        assert isinstance(pl_module, Pretraining)
        self.look(pl_module, everything=True)

    def look(self, module: Pretraining, everything: bool) -> None:
        """Reports what is sick; ``everything``: also of the step that the device may still be at."""
        module.guard.settle(everything)
        for reading in module.guard.readings():
            if reading.nonfinite:
                self._none(module, reading)
            elif reading.above:
                self._spike(module, reading)

    def _due(self, module: Pretraining) -> bool:
        step = module.steps_done
        return self.metrics.due(module) or step % self.save_every_n_steps == 0

    def _none(self, module: Pretraining, reading: Reading) -> None:
        answer = {SKIP: WARN}.get(self.nonfinite, self.nonfinite)
        reason = f"{_names(reading.nonfinite)} not finite; the update is left out"
        answer, reason = self._bounded(self.nonfinite, reading, answer, reason)
        event = {"event": "nonfinite", "values": reading.values, "skipped": True}
        self.incidents.report(module.start, reading.step, event, answer, reason)

    def _spike(self, module: Pretraining, reading: Reading) -> None:
        answer = self.spike if self.spike in (REWIND, STOP) and reading.risen == self.patience else WARN
        if answer == WARN and reading.taken and reading.risen > 1:
            return  # told when it began
        parts = [
            f"{name} is {reading.values[name]:.4g}, believed up to {top:.4g}" for name, top in reading.above.items()
        ]
        reason = f"a spike: {'; '.join(parts)}" + ("" if reading.taken else "; the update is left out")
        answer, reason = self._bounded(self.spike, reading, answer, reason)
        event = {"event": "spike", "values": reading.values, "bounds": reading.above, "skipped": not reading.taken}
        self.incidents.report(module.start, reading.step, event, answer, reason)

    def _bounded(self, policy: str, reading: Reading, answer: str, reason: str) -> tuple[str, str]:
        if policy == SKIP and reading.left_out > self.max_skips:
            return STOP, f"{reason}, as were the {reading.left_out - 1} before it (sick.max_skips={self.max_skips})"
        return answer, reason


def _names(names: list[str]) -> str:
    return f"{', '.join(names[:4])} {'is' if len(names) == 1 else 'are'}"
