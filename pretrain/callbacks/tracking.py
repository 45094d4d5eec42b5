"""Keeps a mirror process for each tracker, beside training."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.trackers.process import MirrorProcess

log = logging.getLogger("pretrain")

_LOOK_S = 1.0
_WAIT_S = 10.0
"""Longest wait of a finished run for its mirrors, all together. One that is stopped has less time to leave."""
_HASTE_S = 2.0


class Tracking(pl.Callback):
    """Starts the mirrors with the run, on rank 0, and lets them go at its end. Nothing of a tracker runs in here.

    Args:
        folder: the run directory.
        names: of the trackers in the config's ``logger``.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.names = names
        self.mirrors = [MirrorProcess(folder, name) for name in names]
        self._active = False
        self._due = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts them: the run directory has its config, and no rows that are about to be dropped."""
        self._active = bool(self.mirrors) and trainer.is_global_zero
        if self._active:
            log.info("metrics also go to %s (logger=none: nowhere else)", " and ".join(self.names))
            for mirror in self.mirrors:
                mirror.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Looks after them once a second."""
        now = time.monotonic()
        if self._active and now >= self._due:
            self._due = now + _LOOK_S
            for mirror in self.mirrors:
                mirror.look(now)

    def _finish(self, seconds: float) -> None:
        if not self._active:
            return
        self._active = False
        end = time.monotonic() + seconds
        for mirror in self.mirrors:
            mirror.close()
        for mirror in self.mirrors:
            mirror.finish(end - time.monotonic())

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The run has ended."""
        self._finish(_WAIT_S)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The run has ended early."""
        self._finish(_HASTE_S)
