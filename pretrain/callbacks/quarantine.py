"""Unusable samples: written down with shard, key and reason, and counted against a budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from data.errors import InputError
from data.loader import StepBatch
from pretrain.module import Pretraining
from pretrain.run import QUARANTINE, RunDirectory


class Quarantine(pl.Callback):
    """Ends the run when more than ``max_share`` of the samples, and more than ``min_count``, could not be used.

    Samples are counted over all processes, so that the verdict is the same on each and for any number of them.

    Args:
        directory: gets ``quarantine.jsonl``, from other ranks ``quarantine-00001.jsonl`` and so on.
        max_share: of the samples seen.
        min_count: so many are always survived.
        batch_sizes: task -> global batch, samples.
    """

    def __init__(
        self, directory: RunDirectory, max_share: float, min_count: int, batch_sizes: Mapping[str, int]
    ) -> None:
        self.directory = directory
        self.max_share, self.min_count = max_share, min_count
        self.samples_a_step = sum(batch_sizes.values())
        self.rejected = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up the count of earlier starts."""
        if trainer.is_global_zero:
            self.rejected = sum(1 for path in self.directory.quarantines() for _ in self.directory.rows(path.name))
        self.rejected = self._over_processes(trainer, pl_module, self.rejected)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Writes the step's unusable samples.

        Raises:
            InputError: the budget is spent.
        """
        assert isinstance(pl_module, Pretraining)
        name = Path(QUARANTINE)
        file = f"{name.stem}-{trainer.global_rank:05d}{name.suffix}" if trainer.global_rank else QUARANTINE
        for rejected in batch.rejected:
            self.directory.append(file, {"step": pl_module.steps_done, **rejected._asdict()})
        new = self._over_processes(trainer, pl_module, len(batch.rejected))
        self.rejected += new
        seen = pl_module.steps_done * self.samples_a_step
        if new and self.rejected > max(self.min_count, self.max_share * seen):
            last = batch.rejected[-1] if batch.rejected else None
            example = f"; the last is '{last.key}' in '{last.shard}': {last.reason}" if last else ""
            raise InputError(
                f"{self.rejected} of {seen} samples cannot be used, more than quarantine.max_share={self.max_share} "
                f"allows{example} (all of them: {self.directory.path / QUARANTINE})"
            )

    def _over_processes(self, trainer: pl.Trainer, module: pl.LightningModule, count: int) -> int:
        if trainer.world_size == 1:
            return count
        total = torch.tensor(count, device=module.device)
        dist.all_reduce(total)
        return int(total)
