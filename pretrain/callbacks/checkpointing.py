"""Publishes checkpoints at step edges: after the step's metrics and measurements, before anything of the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from safetensors import SafetensorError

from data.errors import RunError
from data.loading.loader import StepBatch
from pretrain import checkpoint
from pretrain.callbacks.metrics import check_finite, flat_row
from pretrain.module import Pretraining
from pretrain.optim.state import optimizer_tensors
from pretrain.run import RunDirectory


class Checkpointing(pl.Callback):
    """Saves every ``every_n_steps`` steps and at ``max_steps``; keeps the newest ``keep_last``.

    Args:
        directory: of the run.
        every_n_steps, max_steps, keep_last: when, and how many are kept.
        batch_sizes: task -> global batch, samples.
        facts: what else a checkpoint says; see :func:`pretrain.start.facts_of`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        every_n_steps: int,
        max_steps: int,
        keep_last: int,
        batch_sizes: Mapping[str, int],
        facts: Mapping[str, Any],
    ) -> None:
        self.directory = directory
        self.every_n_steps, self.max_steps, self.keep_last = every_n_steps, max_steps, keep_last
        self.batch_sizes, self.facts = dict(batch_sizes), dict(facts)
        self._sound: set[str] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Saves if it is due."""
        assert isinstance(pl_module, Pretraining)
        step = pl_module.steps_done
        if step % self.every_n_steps == 0 or step == self.max_steps:
            self.save(trainer, pl_module)

    def save(self, trainer: pl.Trainer, module: Pretraining) -> None:
        """Publishes the state after the last step; every process holds all of it, rank 0 writes."""
        check_finite(flat_row(module), module.steps_done)
        self.directory.secure()
        trainer.strategy.barrier("rows are on disk")
        if trainer.is_global_zero:
            try:
                published = checkpoint.publish(self.directory.checkpoints, self.content(module))
            except (OSError, SafetensorError) as error:
                raise RunError(
                    f"the checkpoint of step {module.steps_done} cannot be written: {error}; older ones are untouched; "
                    "make room, and the same command continues"
                ) from None
            self._sound.add(published.name)
            checkpoint.prune(self.directory.checkpoints, self.keep_last, self._sound)

    def content(self, module: Pretraining) -> checkpoint.Content:
        """What is saved."""
        done = module.steps_done - module.start.step
        state = {
            "step": module.steps_done,
            "positions": {task: module.start.positions[task] + done * size for task, size in self.batch_sizes.items()},
            "segments": module.start.segments,
            "schedule": {"name": type(module.schedule).__name__, **vars(module.schedule)},
            **self.facts,
        }
        tensors = optimizer_tensors(module.optimizer, module.model)
        ema = module.ema.tensors if module.ema is not None else {}
        return checkpoint.Content(dict(module.model.state_dict()), tensors, state, dict(ema))
