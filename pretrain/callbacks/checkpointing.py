"""Publishes checkpoints at step edges: after the step's metrics and measurements, before anything of the next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from data.errors import InputError, RunError, choices
from data.loading.loader import StepBatch
from pretrain import checkpoint
from pretrain.agreement import Agreement
from pretrain.checkpoint.peers import Peers
from pretrain.checkpoint.plan import State
from pretrain.checkpoint.saver import Outcome, Saver
from pretrain.module import Pretraining
from pretrain.run import EVENTS, RunDirectory
from pretrain.sharding.pieces import ema_pieces, model_pieces, optimizer_pieces
from pretrain.soundness.guard import refuse_unsound

log = logging.getLogger("pretrain")

BUSY = "checkpoint_busy"
FAILED, AGAIN = "checkpoint_failed", "checkpoint_again"


class Checkpointing(pl.Callback):
    """Saves every ``every_n_steps`` steps and at ``max_steps``, beside training; keeps what ``retention`` says.

    A save that the disk refuses (full, quota, read-only, an I/O error) is told, and tried again 1, 2, 4, ... steps
    later while an older checkpoint stands. The first and the last one, and one that a signal asks for, must succeed.

    Args:
        directory: of the run.
        every_n_steps, max_steps: when.
        retention: what is kept.
        asynchronous: training waits only for a copy in host memory.
        batch_sizes: task -> global batch, samples.
        facts: what else a checkpoint says; see :func:`pretrain.start.facts_of`.
        agreement: of the processes at each step edge.

    Attributes:
        extra: name -> what else ``state.json`` gets under it, asked at each save: JSON, the same on all processes.
    """

    def __init__(
        self,
        directory: RunDirectory,
        every_n_steps: int,
        max_steps: int,
        retention: checkpoint.Retention,
        batch_sizes: Mapping[str, int],
        facts: Mapping[str, Any],
        asynchronous: bool = True,
        agreement: Agreement | None = None,
    ) -> None:
        self.directory, self.retention = directory, retention
        self.every_n_steps, self.max_steps, self.asynchronous = every_n_steps, max_steps, asynchronous
        self.batch_sizes, self.facts = dict(batch_sizes), dict(facts)
        self.extra: dict[str, Callable[[], Any]] = {}
        self.agreement = agreement or Agreement()
        self.agreement.offer(BUSY, lambda: int(self._saver is not None and self._saver.busy))
        self._saver: Saver | None = None
        self._sound: set[str] = set()
        self._pruning = Lock()
        self._stands = self._metric_known = self._metric_missed = False
        self._failures = 0
        self._retry_at: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learns whether there is a checkpoint to fall back on; what a save does was tried before, by preflight."""
        assert isinstance(pl_module, Pretraining)
        self._saver = self._new_saver()
        if trainer.is_global_zero:
            began = checkpoint.directory_name(pl_module.start.step)
            self._sound |= {path.name for path in checkpoint.published(self.directory.checkpoints)} & {began}
        self._stands, self._metric_known = self._saver.peers.from_first((bool(self._sound), self._was_measured()))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Learns what became of an earlier save, and saves if it is due."""
        assert isinstance(pl_module, Pretraining)
        self._check_metric(pl_module)
        saver, step = self._running(), pl_module.steps_done
        alone = saver.peers.size == 1
        if not (saver.busy if alone else self.agreement.value(BUSY)):
            self._take(saver.settle(), step)
        if step == pl_module.start.step:
            return  # the run has gone back to a checkpoint, which is there
        if step == self.max_steps:
            self.save(trainer, pl_module, wait=True)
        elif step % self.every_n_steps == 0 or (self._retry_at is not None and step >= self._retry_at):
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Waits for what is under way."""
        self.wait(trainer)

    def save(self, trainer: pl.Trainer, module: Pretraining, wait: bool = False, patience: float | None = None) -> None:
        """Saves the state after the last step; all processes call it.

        Args:
            trainer: of the run.
            module: of the run.
            wait: return only when it is published.
            patience: seconds to wait until older ones are removed, which may take as long as reading them; None: for as
                long as it takes.

        Raises:
            RunError: it cannot be written, where it must be.
        """
        saver, step = self._running(), module.steps_done
        if saver.step == step and wait:
            self._take(saver.finish(patience), step)
            if self._retry_at is None:
                return
        self.wait(trainer, patience)
        self._retry_at = None
        saver.start(step, state_of(module), self.facts_at(module), copied=self.asynchronous and not wait)
        if wait or not self.asynchronous:
            self._take(saver.finish(patience), step, must=wait)

    def wait(self, trainer: pl.Trainer, patience: float | None = None) -> None:
        """Returns when nothing is under way any more; all processes call it. ``patience`` as in :meth:`save`.

        Raises:
            RunError: what was under way could not be written, and no older checkpoint stands.
        """
        outcome = self._running().finish(patience)
        self._take(outcome, outcome.step if outcome else 0)

    def abandon(self, patience: float | None = None) -> None:
        """Ends without a word to the other processes, which may be dead: what they have not agreed on is not published.

        One process alone finishes what is under way; ``patience`` as in :meth:`save`.
        """
        if self._saver is None:
            return
        if self._saver.peers.size > 1:
            self._saver.close(wait=False)  # first the others must hear of the end, in which they may be stuck
            return
        outcome = self._saver.finish(patience)
        if outcome is not None and outcome.error is not None:
            log.warning("the checkpoint of step %d could not be written: %s", outcome.step, outcome.error)
        self._saver.close(patience=patience)

    def facts_at(self, module: Pretraining) -> dict[str, Any]:
        """What ``state.json`` says after the module's last step."""
        done = module.steps_done - module.start.step
        return {
            "step": module.steps_done,
            "positions": {task: module.start.positions[task] + done * size for task, size in self.batch_sizes.items()},
            "segments": module.start.segments,
            "schedule": {"name": type(module.schedule).__name__, **vars(module.schedule)},
            "held_out": {name.removeprefix("heldout/"): value for name, value in module.held_out.items()},
            **self.facts,
            **{name: ask() for name, ask in self.extra.items()},
        }

    def _new_saver(self) -> Saver:
        group = self.agreement
        peers = Peers(group.rank, group.world_size, group.group)
        return Saver(self.directory.checkpoints, peers, self.directory.secure, examine, self._published, self._prune)

    def _running(self) -> Saver:
        assert self._saver is not None, "training has not begun"
        return self._saver

    def _published(self, path: Path) -> None:
        """In the saver's thread of rank 0: the checkpoint stands, whatever becomes of the rest."""
        self._sound.add(path.name)
        try:
            checkpoint.mark(self.directory.checkpoints)
        except OSError as error:
            log.warning("that a checkpoint was published could not be noted: %s", error)

    def _prune(self) -> None:
        """In a thread of rank 0; one at a time, as who had no time may have left another one behind."""
        try:
            with self._pruning:
                checkpoint.prune(self.directory.checkpoints, self.retention, self._sound)
        except OSError as error:
            log.warning("older checkpoints could not be removed: %s", error)

    def _take(self, outcome: Outcome | None, step: int, must: bool = False) -> None:
        """Goes on with what became of a save; the same on all processes."""
        if outcome is None:
            return
        error = outcome.error
        if error is None:
            if self._failures:
                self._tell({"step": step, "event": AGAIN, "checkpoint": outcome.step})
                log.warning("the checkpoint of step %d is published; %d before it failed", outcome.step, self._failures)
            self._stands, self._failures, self._retry_at = True, 0, None
            return
        where = f" on process {outcome.rank}" if self.agreement.world_size > 1 else ""
        text = f"the checkpoint of step {outcome.step} cannot be written{where}: {error}"
        if not isinstance(error, OSError):
            raise error if isinstance(error, RunError) else RunError(text) from error
        if must or not self._stands:
            older = "older ones are untouched" if self._stands else "there is none yet"
            raise RunError(f"{text}; {older}; make room, and the same command continues") from None
        delay = min(2**self._failures, self.every_n_steps)
        self._failures += 1
        self._retry_at = step + delay
        self._tell({"step": step, "event": FAILED, "checkpoint": outcome.step, "error": str(error)})
        log.warning("%s; an older one stands, next try after step %d", text, self._retry_at)

    def _tell(self, event: Mapping[str, Any]) -> None:
        if self.agreement.rank == 0:
            self.directory.append(EVENTS, event)

    def _was_measured(self) -> bool:
        """Whether an earlier start of the run knew what is best."""
        metric = self.retention.metric
        paths = checkpoint.published(self.directory.checkpoints) if metric is not None else []
        return any(checkpoint.measured(path, str(metric)) is not None for path in paths)

    def _check_metric(self, module: Pretraining) -> None:
        """As soon as all names are known, and with a warning alone where the run has come so far that it is worth it.

        Raises:
            InputError: nothing is measured under the name that says which checkpoints are best.
        """
        metric, known = self.retention.metric, module.metrics
        if metric is None or not known:
            return
        self._metric_known |= f"heldout/{metric}" in known
        names = [name.removeprefix("heldout/") for name in sorted(known)]
        wrong = f"checkpoint.keep_best.metric '{metric}' is not measured; {choices(metric, names)}"
        if not self._metric_known and module.steps_done < self.max_steps:
            raise InputError(wrong)
        missing = module.all_measured and bool(module.held_out) and f"heldout/{metric}" not in module.held_out
        if missing and not self._metric_missed:
            self._metric_missed = True
            log.warning("%s; no checkpoint of such a step is kept as the best", wrong)


def examine(copies: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    """Lets no weight into a checkpoint that is no number.

    Raises:
        RunError: naming the first one.
    """
    for kind in ("model", "ema"):
        refuse_unsound(copies.get(kind, {}), step)


def state_of(module: Pretraining) -> State:
    """What this process holds of all that a checkpoint keeps; the tensors themselves."""
    return {
        "model": model_pieces(module.model),
        "optimizer": optimizer_pieces(module.optimizer, module.model),
        "ema": ema_pieces(module.ema),
    }
