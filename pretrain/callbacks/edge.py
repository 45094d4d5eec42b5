"""The edge of a step: once all that a rank saw of it is known, the ranks exchange it."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.company import Company
from pretrain.module import Pretraining
from pretrain.run import RunDirectory

_LOOK_S = 5.0


class StepEdge(pl.Callback):
    """Stands behind what measures and before what decides.

    Args:
        company: of the run.
        directory: must still be this run's own when a step ends.
    """

    def __init__(self, company: Company, directory: RunDirectory) -> None:
        self.company, self.directory = company, directory
        self._looked = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Exchanges.

        Raises:
            RunError: another process has taken the run directory.
        """
        assert isinstance(pl_module, Pretraining)
        now = time.monotonic()
        if now - self._looked > _LOOK_S:
            self._looked = now
            self.directory.hold()
        self.company.lifeline.doing = f"waited for the others after step {pl_module.steps_done}"
        self.company.agreement.exchange()
        self.company.lifeline.doing = f"decided on what follows step {pl_module.steps_done}"
