"""Signals stop a run at a step edge, with a checkpoint, and exit code 143 (130 for Ctrl-C)."""

from __future__ import annotations

import signal
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.company import Company
from pretrain.module import Pretraining
from pretrain.requeue import ask_for_more
from pretrain.signals import SIGNALS, Interrupted, Stopped, is_stop

_TIDY_S = 2.0
"""Longest wait of a stopped run for the removal of older checkpoints; what is left of it is for the next start."""


class StopOnSignal(pl.Callback):
    """All processes agree at the next step edge, save and stop, whichever of them was signalled.

    Lightning's own handlers save wherever the signal happens to arrive and run collectives inside the handler, which
    hangs when one rank alone is signalled; here a handler only notes, see :mod:`pretrain.signals`.

    Args:
        checkpointing: saves.
        company: of the run.
        max_steps: a run that has come so far is not stopped, it is done.
    """

    def __init__(self, checkpointing: Checkpointing, company: Company, max_steps: int) -> None:
        self.checkpointing, self.company, self.max_steps = checkpointing, company, max_steps
        company.agreement.offer("stop", lambda: SIGNALS.received)
        company.agreement.offer("requeue", lambda: SIGNALS.requeueing)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on stopping is for the edge of a step."""
        assert isinstance(pl_module, Pretraining)
        SIGNALS.listen()
        SIGNALS.running = True
        self._go_on(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Stops if any process was signalled.

        Raises:
            Stopped: after the checkpoint is published.
        """
        assert isinstance(pl_module, Pretraining)
        number = self.company.agreement.value("stop")
        if not number or pl_module.steps_done == self.max_steps:
            self._go_on(pl_module)
            return
        self.checkpointing.save(trainer, pl_module, wait=True, patience=0.0)
        if trainer.is_global_zero and self.company.requeue:
            warned = bool(self.company.agreement.value("requeue"))
            ask_for_more(number, warned, self.company.agreement.timeout_s / 2)
        if self.company.requeue:
            self.company.agreement.gather(0)  # who ends while rank 0 asks may be srun's reason to kill it
        raise Stopped(f"stopped by {signal.Signals(number).name} after step {pl_module.steps_done}", number)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A wait for data was cut short by a signal: alone, this process saves what it has; others are not at the edge.

        It stands before the callbacks that tell of the run's end, and raises nothing, as that would keep them from it.

        Raises:
            RunError: the checkpoint cannot be written.
        """
        assert isinstance(pl_module, Pretraining)
        if not isinstance(exception, Interrupted) or trainer.world_size > 1:
            self.checkpointing.abandon(_TIDY_S if is_stop(exception) else None)
            if is_stop(exception) and not isinstance(exception, Stopped):
                SIGNALS.leave()  # before the others hear of it: their end may be srun's reason to kill this process
            return
        exception.left, before = " before the first step", pl_module.start.before
        if before is not None and pl_module.steps_done == pl_module.start.step:
            pl_module.start = before  # the next start makes the jump that follows this step anew
        if pl_module.steps_done > pl_module.start.step:
            self.checkpointing.save(trainer, pl_module, wait=True, patience=0.0)
            exception.left = f" after step {pl_module.steps_done}"
        SIGNALS.leave()

    def _go_on(self, module: Pretraining) -> None:
        self.company.attempts.note(module.steps_done + 1)
        self.company.lifeline.doing = f"waited for the data of step {module.steps_done + 1} or computed it"
