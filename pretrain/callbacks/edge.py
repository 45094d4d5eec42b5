"""The edge of a step: once all that a rank saw of it is known, the ranks exchange it."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.company import Company
from pretrain.module import Pretraining
from pretrain.run import RunDirectory

log = logging.getLogger("pretrain")

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
        self._warned = False

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
            self._look()
        self.company.lifeline.doing = f"waited for the others after step {pl_module.steps_done}"
        self.company.agreement.exchange()
        self.company.lifeline.doing = f"decided on what follows step {pl_module.steps_done}"

    def _look(self) -> None:
        try:
            self.directory.hold()
        except OSError as error:
            # A file system that is away for a moment says nothing about whose the directory is; the next look does. A
            # save looks for itself (RunDirectory.secure), and is tried again where it cannot.
            if not self._warned:
                log.warning(
                    "'%s' cannot be looked at: %s; the run goes on, and looks again", self.directory.path, error
                )
            self._warned = True
        else:
            self._warned = False
