"""What a person sees while it trains: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.loading.loader import StepBatch
from pretrain.callbacks.metrics import Metrics, flat_row
from pretrain.module import Pretraining

LINE_SECONDS = 10.0
REFRESH_SECONDS = 0.2


class ProgressReport(pl.Callback):
    """Step, loss of each task, samples a second, share of time spent waiting for data, time left."""

    def __init__(self, metrics: Metrics, max_steps: int) -> None:
        self.metrics, self.max_steps = metrics, max_steps
        self.console = Console(stderr=True)
        self._bar: Progress | None = None
        self._shown = self._began = 0.0
        self._samples = self._waited = 0.0
        self._since = 0.0
        self._done = 0  # steps of this process, those that were gone back from among them

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar on rank 0 of a terminal."""
        assert isinstance(pl_module, Pretraining)
        self._began = self._shown = self._since = time.perf_counter()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=self.max_steps, completed=pl_module.start.step)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Shows the step, not more often than an eye can follow."""
        assert isinstance(pl_module, Pretraining)
        self._done += 1
        self._samples += self.metrics.speed["samples"]
        self._waited += self.metrics.speed["data_wait"]
        now = time.perf_counter()
        due = now - self._shown >= (REFRESH_SECONDS if self._bar else LINE_SECONDS)
        last = pl_module.steps_done == self.max_steps
        if not trainer.is_global_zero or not (due or last):
            return
        self._shown = now
        row = flat_row(pl_module)
        losses = "  ".join(f"{task} {row[f'{task}/loss']:.3f}" for task in pl_module.model.tasks)
        passed = max(now - self._since, 1e-9)
        text = f"{losses}  {self._samples / passed:.0f} samples/s  wait {100 * self._waited / passed:.0f} %"
        if self._bar:
            self._bar.update(self._task, completed=pl_module.steps_done, description=text)
        else:
            left = (now - self._began) / self._done * (self.max_steps - pl_module.steps_done)
            print(
                f"step {pl_module.steps_done}/{self.max_steps}  {text}  left {left:.0f} s", file=sys.stderr, flush=True
            )
        if passed > LINE_SECONDS:
            self._samples = self._waited = 0.0
            self._since = now

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the bar."""
        if self._bar:
            self._bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Closes the bar."""
        self.teardown(trainer, pl_module, "fit")
