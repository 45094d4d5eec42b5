"""Unusable samples: written down with shard, key, member, kind and reason, and counted against a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from data.errors import InputError
from data.loading.loader import Rejected, StepBatch
from pretrain.ledger import samples_seen
from pretrain.module import Pretraining
from pretrain.run import QUARANTINE, RunDirectory

TRAIN, HELD_OUT = "train", "heldout"
_EXAMPLES = 3


class Quarantine(pl.Callback):
    """Ends the run when more than ``max_share`` of the samples, and more than ``min_count``, could not be used.

    Samples are counted over all processes, so that the verdict is the same on each and for any number of them.

    Rows of ``quarantine.jsonl``: ``step``, ``split``, ``task``, ``position``, ``shard``, ``key``, ``member`` ("" where
    it is the sample as a whole), ``kind`` (one of :data:`data.errors.KINDS`) and ``reason``.

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
        self._seen = self._since = 0  # samples, up to which step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up the counts of earlier starts; their batches may have been larger or smaller."""
        assert isinstance(pl_module, Pretraining)
        self.rejected = self._seen = 0
        self._since = pl_module.steps_done
        if trainer.is_global_zero:
            self.rejected = sum(1 for row in rows(self.directory) if row.get("split", TRAIN) == TRAIN)
            self._seen = samples_seen(self.directory, self._since)
        self.rejected = self._over_processes(trainer, pl_module, self.rejected)
        self._seen = self._over_processes(trainer, pl_module, self._seen)

    def on_gone_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts anew what is left of the rows."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Writes the step's unusable samples.

        Raises:
            InputError: the budget is spent.
        """
        assert isinstance(pl_module, Pretraining)
        write(self.directory, trainer.global_rank, pl_module.steps_done, TRAIN, batch.rejected)
        new = self._over_processes(trainer, pl_module, len(batch.rejected))
        self.rejected += new
        seen = self._seen + (pl_module.steps_done - self._since) * self.samples_a_step
        if new and self.rejected > max(self.min_count, self.max_share * seen):
            raise InputError(
                f"{self.rejected} of {seen} samples cannot be used, more than quarantine.max_share={self.max_share} "
                f"and quarantine.min_count={self.min_count} allow; {summary(rows(self.directory))} "
                f"(all of them: {self.directory.path / QUARANTINE})"
            )

    def _over_processes(self, trainer: pl.Trainer, module: pl.LightningModule, count: int) -> int:
        if trainer.world_size == 1:
            return count
        total = torch.tensor(count, device=module.device)
        dist.all_reduce(total)
        return int(total)


def rows(directory: RunDirectory, damaged: bool = False) -> Iterator[dict[str, Any]]:
    """What is in quarantine, of all ranks; ``damaged`` as in :meth:`pretrain.run.RunDirectory.rows`."""
    for path in directory.quarantines():
        yield from directory.rows(path.name, damaged)


def write(directory: RunDirectory, rank: int, step: int, split: str, rejected: Sequence[Rejected]) -> None:
    """Adds a row for each of ``rejected`` to the rank's file."""
    name = Path(QUARANTINE)
    file = f"{name.stem}-{rank:05d}{name.suffix}" if rank else QUARANTINE
    for one in rejected:
        directory.append(file, {"step": step, "split": split, **one._asdict()})


def summary(found: Iterator[dict[str, Any]]) -> str:
    """How many training samples of each kind, most first, and the first of them in full."""
    kinds: Counter[str] = Counter()
    examples: list[str] = []
    for row in found:
        if row.get("split", TRAIN) == TRAIN:
            kinds[row.get("kind", "undecodable")] += 1
            if len(examples) < _EXAMPLES:
                examples.append(f"'{row['key']}' in '{row['shard']}': {row['reason']}")
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{counts}; the first: {'; '.join(examples)}"
