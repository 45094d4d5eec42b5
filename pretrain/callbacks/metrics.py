"""metrics.jsonl: one row a step, the same however often the run was interrupted. Times go to speed.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from data.errors import RunError
from data.loader import StepBatch
from pretrain.module import Pretraining
from pretrain.run import LEDGER, METRICS, SPEED, RunDirectory


class Metrics(pl.Callback):
    """Writes what each step measured, and mirrors it to the loggers.

    Rows of ``metrics.jsonl``: ``step``, ``loss`` (weighted sum of the tasks), ``TASK/NAME``, ``lr``,
    ``gradient_norm``, and ``heldout/NAME`` where it was measured.
    Rows of ``speed.jsonl``: ``step``, ``seconds`` (of the step), ``data_wait`` (seconds of it spent waiting for data),
    ``samples``.
    """

    def __init__(self, directory: RunDirectory, every_n_steps: int, ledger: bool) -> None:
        self.directory = directory
        self.every_n_steps = every_n_steps
        self.ledger = ledger
        self.speed: dict[str, float] = {}
        self.row: dict[str, float] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Writes the rows of the step."""
        assert isinstance(pl_module, Pretraining)
        samples = sum(len(ids) for ids in batch.samples.values()) * trainer.world_size
        self.speed = {"seconds": batch.waited + pl_module.seconds, "data_wait": batch.waited, "samples": samples}
        step = pl_module.steps_done
        if self.ledger:
            for task, ids in batch.samples.items():
                row = {"step": step, "task": task, "samples": [list(identity) for identity in ids]}
                self.directory.append(f"{LEDGER}/rank-{trainer.global_rank:05d}.jsonl", row)
        if step % self.every_n_steps and not pl_module.held_out:
            return
        self.row = flat_row(pl_module) | pl_module.held_out
        check_finite(self.row, step)
        if trainer.is_global_zero:
            self.directory.append(METRICS, {"step": step, **self.row})
            self.directory.append(SPEED, {"step": step, **self.speed})
            for logger in trainer.loggers:
                logger.log_metrics(self.row | {f"speed/{k}": v for k, v in self.speed.items()}, step)


def flat_row(module: Pretraining) -> dict[str, float]:
    """The module's last metrics as plain numbers; the one place where the host waits for the device."""
    weights = {name: task.weight for name, task in module.model.tasks.items()}
    row = {"loss": sum(weights[t] * float(m["loss"]) for t, m in module.last.items() if t)}
    for task, metrics in module.last.items():
        row |= {f"{task}/{name}" if task else name: float(value) for name, value in metrics.items()}
    return row


def check_finite(row: Mapping[str, float], step: int) -> None:
    """Stops a run whose numbers are sick before they reach a file or a checkpoint.

    Raises:
        RunError: naming the step and what is not finite.
    """
    sick = sorted(name for name, value in row.items() if not math.isfinite(value))
    if sick:
        verb = "is" if len(sick) == 1 else "are"
        raise RunError(
            f"step {step}: {', '.join(sick[:4])} {verb} not finite; nothing of it is saved; the same command goes on "
            "from the newest checkpoint (a lower optimizer.lr?)"
        )
