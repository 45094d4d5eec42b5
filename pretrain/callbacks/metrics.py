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
    """Writes what each step measured. Trackers read it there, from processes of their own; see docs/watching.md.

    Rows of ``metrics.jsonl``: ``step``, ``loss`` (weighted sum of the tasks), ``TASK/NAME``, ``lr``,
    ``gradient_norm``, ``TASK/SOURCE/samples`` and ``/epoch`` (drawn so far), and ``heldout/NAME`` where it was
    measured. A step whose update was left out has ``skipped``, and lacks what is no number.
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
        self.speed = {"seconds": batch.waited, "data_wait": batch.waited, "samples": samples}
        step = pl_module.steps_done
        if self.ledger:
            for task, places in batch.places.items():
                position = pl_module.start.position(task, step - 1, len(places) * trainer.world_size)
                row = {"step": step, "task": task, "position": position}
                self.directory.append(f"{LEDGER}/rank-{trainer.global_rank:05d}.jsonl", row | packed(places))
        if not self.due(pl_module):
            return
        check_finite(pl_module.held_out, step)
        measured = {name: value for name, value in flat_row(pl_module).items() if math.isfinite(value)}
        self.speed["seconds"] += pl_module.stopwatch.seconds()  # the device has been waited for by now
        self.row = measured | self._left_out(pl_module) | self._drawn(pl_module) | pl_module.held_out
        if trainer.is_global_zero:
            self.directory.append(METRICS, {"step": step, **self.row})
            self.directory.append(SPEED, {"step": step, **self.speed})

    def due(self, module: Pretraining) -> bool:
        """Whether the last step has a row."""
        return module.steps_done % self.every_n_steps == 0 or bool(module.held_out)

    def _left_out(self, module: Pretraining) -> dict[str, float]:
        module.guard.settle()
        reading = module.guard.newest()
        return {"skipped": 1.0} if reading is not None and not reading.taken else {}

    def _drawn(self, module: Pretraining) -> dict[str, float]:
        """Samples drawn from each source, and epochs of it."""
        row: dict[str, float] = {}
        for task, size in self.batch_sizes.items():
            position = module.start.position(task, module.steps_done, size)
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
    """Stops a run whose measurements are no numbers before they reach a file.

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
