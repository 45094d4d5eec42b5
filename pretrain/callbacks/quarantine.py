"""Unusable samples: written down with shard, key and reason, and counted against a budget."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from data.errors import InputError
from data.loader import StepBatch
from pretrain.module import Pretraining
from pretrain.run import QUARANTINE, RunDirectory


class Quarantine(pl.Callback):
    """Ends the run when more than ``max_share`` of the samples, and more than ``min_count``, could not be used."""

    def __init__(self, directory: RunDirectory, max_share: float, min_count: int) -> None:
        self.directory = directory
        self.max_share, self.min_count = max_share, min_count
        self.rejected = sum(1 for _ in directory.rows(QUARANTINE))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Writes the step's unusable samples."""
        if not batch.rejected:
            return
        assert isinstance(pl_module, Pretraining)
        for rejected in batch.rejected:
            self.directory.append(QUARANTINE, {"step": pl_module.steps_done, **rejected._asdict()})
        self.rejected += len(batch.rejected)
        seen = pl_module.steps_done * sum(map(len, batch.samples.values()))
        if self.rejected > max(self.min_count, self.max_share * seen):
            last = batch.rejected[-1]
            raise InputError(
                f"{self.rejected} of {seen} samples cannot be used, more than quarantine.max_share={self.max_share} "
                f"allows; the last is '{last.key}' in '{last.shard}': {last.reason} "
                f"(all of them: {self.directory.path / QUARANTINE})"
            )
