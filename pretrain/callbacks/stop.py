"""Signals stop a run at a step edge, with a checkpoint, and exit code 143."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from data.loading.loader import StepBatch
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.module import Pretraining

log = logging.getLogger("pretrain")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(Exception):
    """The run was stopped by a signal and can be continued; carries the step."""


class StopOnSignal(pl.Callback):
    """The handler sets a flag; all processes agree at the next step edge, save and stop. A second Ctrl-C ends at once.

    Lightning's own handlers save wherever the signal happens to arrive and run collectives inside the handler, which
    hangs when one rank alone is signalled; they are replaced once training starts.
    """

    def __init__(self, checkpointing: Checkpointing) -> None:
        self.checkpointing = checkpointing
        self.received = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the signals."""
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        self.received = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Stops if any process was signalled.

        Raises:
            Stopped: after the checkpoint is published.
        """
        assert isinstance(pl_module, Pretraining)
        received = self.received
        if trainer.world_size > 1:
            flag = torch.tensor(received, device=pl_module.device)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            received = int(flag)
        if received:
            self.checkpointing.save(trainer, pl_module)
            raise Stopped(f"stopped by {signal.Signals(received).name} after step {pl_module.steps_done}")
