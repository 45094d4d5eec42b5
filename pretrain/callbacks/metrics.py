"""metrics.jsonl: one row a step, the same however often the run was interrupted. Times go to speed.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from data.errors import RunError
from data.loading.loader import StepBatch
from data.stream import Stream
from pretrain.ledger import packed
from pretrain.module import Pretraining
from pretrain.run import LEDGER, METRICS, SPEED, RunDirectory


class Metrics(pl.Callback):
    """Writes what each step measured, and mirrors it to the loggers.

    Rows of ``metrics.jsonl``: ``step``, ``loss`` (weighted sum of the tasks), ``TASK/NAME``, ``lr``,
    ``gradient_norm``, ``TASK/SOURCE/samples`` and ``/epoch`` (drawn so far), and ``heldout/NAME`` where it was
    measured.
    Rows of ``speed.jsonl``: ``step``, ``seconds`` (of the step), ``data_wait`` (seconds of it spent waiting for data),
    ``samples``.
    """

    def __init__(
        self,
        directory: RunDirectory,
        every_n_steps: int,
        ledger: bool,
        streams: Mapping[str, Stream],
        batch_sizes: Mapping[str, int],
    ) -> None:
        self.directory = directory
        self.every_n_steps = every_n_steps
        self.ledger = ledger
        self.streams, self.batch_sizes = streams, batch_sizes
        self.speed: dict[str, float] = {}
        self.row: dict[str, float] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Writes the rows of the step."""
        assert isinstance(pl_module, Pretraining)
        samples = batch.count * trainer.world_size
        self.speed = {"seconds": batch.waited + pl_module.seconds, "data_wait": batch.waited, "samples": samples}
        step = pl_module.steps_done
        if self.ledger:
            for task, places in batch.places.items():
                done = (step - 1 - pl_module.start.step) * len(places) * trainer.world_size
                row = {"step": step, "task": task, "position": pl_module.start.positions[task] + done}
                self.directory.append(f"{LEDGER}/rank-{trainer.global_rank:05d}.jsonl", row | packed(places))
        if step % self.every_n_steps and not pl_module.held_out:
            return
        self.row = flat_row(pl_module) | self._drawn(pl_module) | pl_module.held_out
        check_finite(self.row, step)
        if trainer.is_global_zero:
            self.directory.append(METRICS, {"step": step, **self.row})
            self.directory.append(SPEED, {"step": step, **self.speed})
            for logger in trainer.loggers:
                logger.log_metrics(self.row | {f"speed/{k}": v for k, v in self.speed.items()}, step)

    def _drawn(self, module: Pretraining) -> dict[str, float]:
        """Samples drawn from each source, and epochs of it."""
        row: dict[str, float] = {}
        for task, size in self.batch_sizes.items():
            position = module.start.positions[task] + (module.steps_done - module.start.step) * size
            for source, (samples, epochs) in self.streams[task].progress(position).items():
                name = source.replace(".", "/", 1)
                row |= {f"{name}/samples": samples, f"{name}/epoch": round(epochs, 6)}
        return row


def flat_row(module: Pretraining) -> dict[str, float]:
    """The module's last metrics as plain numbers; the one place where the host waits for the device."""
    row = {"loss": sum(module.weights[t] * float(m["loss"]) for t, m in module.last.items() if t)}
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
