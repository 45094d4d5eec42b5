"""Answers to sick numbers at the edge of a step: stop, go back and leave samples out, or leave out what follows."""

from __future__ import annotations

import json
import logging
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch.distributed as dist

from data.errors import RunError
from data.loading.loader import StepBatch
from pretrain import checkpoint
from pretrain.agreement import Agreement
from pretrain.callbacks.beginning import Beginning
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.module import Pretraining
from pretrain.optim.state import settle
from pretrain.run import RunDirectory
from pretrain.soundness import decisions
from pretrain.soundness.decisions import Decision
from pretrain.soundness.incidents import ANSWERS, Incident, Incidents
from pretrain.soundness.policies import REWIND, SKIP, STOP, WARN

log = logging.getLogger("pretrain")

SICK = "sick"
T = TypeVar("T")


class Reaction(pl.Callback):
    """All processes give the strictest answer that one of them was asked for, behind the exchange of a step's edge.

    Going back: rank 0 takes the newest sound checkpoint that lies far enough before the sick step, of those that each
    run of the config has (what a signal saved in between would make its course another one), writes down how many
    samples are jumped over there, and removes later checkpoints; then all processes stand at that checkpoint as if they
    had been started from it. Callbacks with a method ``on_gone_back`` are told.

    Args:
        incidents: what asks for an answer.
        agreement: of the processes.
        beginning: puts the run where a checkpoint stands.
        checkpointing: of the run.
        directory: of the run.
        steps_back: the checkpoint lies at least so many steps before the sick one.
        skip_beyond: batches behind the sick one that are left out too.
        at_most: samples are left out so often in a run; then it ends.
    """

    def __init__(
        self,
        incidents: Incidents,
        agreement: Agreement,
        beginning: Beginning,
        checkpointing: Checkpointing,
        directory: RunDirectory,
        steps_back: int,
        skip_beyond: int,
        at_most: int,
    ) -> None:
        self.incidents, self.agreement = incidents, agreement
        self.beginning, self.checkpointing, self.directory = beginning, checkpointing, directory
        self.steps_back, self.skip_beyond, self.at_most = steps_back, skip_beyond, at_most
        agreement.offer(SICK, incidents.code)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Checkpoints hold what later decisions depend on."""
        assert isinstance(pl_module, Pretraining)
        self.checkpointing.extra["soundness"] = pl_module.guard.state
        self.checkpointing.extra["decisions"] = lambda: pl_module.start.decisions

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Answers.

        Raises:
            RunError: the answer is to stop, or samples have been left out often enough.
        """
        assert isinstance(pl_module, Pretraining)
        incident, self.incidents.worst = self.incidents.worst, None
        answer = ANSWERS[self.agreement.value(SICK)]
        if answer == WARN:
            return
        if incident is None:  # another rank's; rank 0 knows what it is about
            incident = Incident(answer, pl_module.steps_done, "another process was told so", {})
        if answer == STOP:
            raise RunError(
                f"step {incident.step}: {incident.reason}; nothing of it is saved; the same command goes on from the "
                "newest checkpoint (a lower optimizer.lr, or sick.*=rewind?)"
            )
        if answer == REWIND:
            self._go_back(trainer, pl_module, incident)
        elif answer == SKIP:
            self._go_ahead(pl_module, incident)

    def _go_back(self, trainer: pl.Trainer, module: Pretraining, incident: Incident) -> None:
        self.checkpointing.wait(trainer)  # it may be the one to go back to
        found = self._target(incident.step - self.steps_back) if self.directory.rank == 0 else None
        target = self._from_first(found.step if found is not None else None)
        if target is None:
            log.warning("no sound checkpoint lies %d steps before it; the run goes on", self.steps_back)
            return
        jumps = self._past(module, found, incident.step) if found is not None else {}
        decision = self._from_first(self._decision(target, jumps, incident, back=True))
        self.directory.release()
        self.agreement.gather(0)  # nobody writes any more to what rank 0 now cuts short
        if self.directory.rank == 0:
            decisions.keep(self.directory, [*decisions.read(self.directory), decision])
            checkpoint.withdraw(self.directory.checkpoints, target)
        module.optimizer.state.clear()
        self.beginning.go_on(module, lambda: found)
        settle(module.optimizer)
        module.guard.restore(module.start.sickness)
        module.held_out = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            told = getattr(callback, "on_gone_back", None)
            if told is not None:
                told(trainer, module)
        told = ", ".join(f"{count:,} of {task}" for task, count in decision["jumps"].items())
        log.warning("gone back to step %d; samples are left out there: %s", target, told)

    def _go_ahead(self, module: Pretraining, incident: Incident) -> None:
        step = module.steps_done
        if any(decision["step"] == step and not decision["back"] for decision in module.start.decisions):
            return  # decided when the run came by here before
        jumps = {task: self.skip_beyond * size for task, size in self.incidents.batch_sizes.items()}
        decision = self._from_first(self._decision(step, jumps, incident, back=False))
        if self.directory.rank == 0:
            decisions.keep(self.directory, [*decisions.read(self.directory), decision])
        module.start.decisions = [*module.start.decisions, decision]
        log.warning("the next %d batches of each task are left out", self.skip_beyond)

    def _past(self, module: Pretraining, found: checkpoint.Reader, sick: int) -> dict[str, int]:
        """Task -> samples from where ``found`` begins to ``skip_beyond`` batches behind the step ``sick``.

        Not so many steps: decisions of the course that is undone may have left samples out between the two.
        """
        standing = decisions.jumps(decisions.holding(decisions.read(self.directory)), found.step)
        jumps = {}
        for task, size in self.incidents.batch_sizes.items():
            begin = found.state["positions"].get(task, 0) + standing.get(task, 0)
            end = module.start.position(task, sick - 1, size) + size
            jumps[task] = end + self.skip_beyond * size - begin
        return jumps

    def _decision(self, step: int, jumps: dict[str, int], incident: Incident, back: bool) -> Decision:
        """To jump after ``step``.

        Raises:
            RunError: that was done often enough.
        """
        if self.directory.rank == 0 and len(decisions.read(self.directory)) >= self.at_most:
            raise RunError(
                f"step {incident.step}: {incident.reason}; samples have been left out {self.at_most} times already "
                "(sick.rewind.at_most); the same command goes on from the newest checkpoint"
            )
        row = {"step": step, "back": back, "jumps": jumps, "cause": incident.event}
        decision: Decision = json.loads(json.dumps(row))  # as it will be read back
        return decision

    def _target(self, latest: int) -> checkpoint.Reader | None:
        """The newest sound checkpoint of a step up to ``latest``, of those that are due whatever interrupts a run."""
        for path in checkpoint.published(self.directory.checkpoints):
            step = checkpoint.step_of(path)
            if step <= latest and step % self.checkpointing.every_n_steps == 0:
                try:
                    return checkpoint.Reader(path)
                except checkpoint.Damaged as error:
                    log.warning("checkpoint %s is damaged (%s)", path.name, error)
        return None

    def _from_first(self, value: T) -> T:
        if self.agreement.group is None:
            return value
        message = [value]
        dist.broadcast_object_list(message, 0, group=self.agreement.group)
        return message[0]
