"""Measures on held-out data at fixed steps and once more at the end, where it is asked for also before the first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl

from data.loading.loader import StepBatch
from pretrain.callbacks.quarantine import HELD_OUT, rows, write
from pretrain.evaluation import results, shown
from pretrain.evaluation.measure import measure
from pretrain.evaluation.scores import Evaluator, Scores, tables_of
from pretrain.module import Pretraining
from pretrain.run import RunDirectory

log = logging.getLogger("pretrain")


class Evaluation(pl.Callback):
    """Runs evaluators between two steps; a step seeds its own randomness, so training does not notice.

    Args:
        directory: gets ``results.json``; the values also go into the step's row of ``metrics.jsonl``.
        evaluators: each gives metrics with value and chance.
        every_n_steps: how often, those that do not say themselves (``every_n_steps`` of an evaluator).
        max_steps: where the run ends; there it is always measured.
        ema: measure the averaged weights instead of the trained ones.
        untrained: measure before the first step of a new run too, into ``evaluations/untrained.json``.
    """

    def __init__(
        self,
        directory: RunDirectory,
        evaluators: list[Evaluator],
        every_n_steps: int,
        max_steps: int,
        ema: bool = False,
        untrained: bool = False,
    ) -> None:
        self.directory, self.evaluators, self.ema, self.untrained = directory, evaluators, ema, untrained
        self.every_n_steps, self.max_steps = every_n_steps, max_steps
        self._told: set[str] = set()
        self._known: set[str] = set()
        self._unknown = [one for one in evaluators if getattr(one, "gives", True)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What all evaluators find before anything is learned, to compare with; the same for any number of starts."""
        assert isinstance(pl_module, Pretraining)
        if self.untrained and pl_module.steps_done == 0:
            scores = measure(pl_module.model, self.evaluators, self._failed)
            pl_module.metrics = self._names(self.evaluators, scores)
            if trainer.is_global_zero:
                with _a_full_disk_is_a_warning("what was measured before the first step"):
                    results.write(results.baseline_of(self.directory.path), 0, "", False, scores)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Measures if it is due."""
        assert isinstance(pl_module, Pretraining)
        step = pl_module.steps_done
        due = self.due(step)
        if due:
            average = pl_module.ema if self.ema else None
            with average.swapped() if average is not None else nullcontext():
                scores = measure(pl_module.model, due, self._failed)
            pl_module.all_measured = len(due) == len(self.evaluators)
            pl_module.held_out = {f"heldout/{name}": score["value"] for name, score in scores.items()}
            pl_module.metrics = self._names(due, scores)
            if trainer.is_global_zero:
                with _a_full_disk_is_a_warning(f"which held-out samples cannot be used (after step {step})"):
                    self._report(step)
                with _a_full_disk_is_a_warning(f"what was measured after step {step} (it stands in metrics.jsonl)"):
                    self.directory.write_results(step, scores, tables_of(due), pl_module.all_measured)
                shown.write_all(self.directory.path, step, due)

    def due(self, step: int) -> list[Evaluator]:
        """The evaluators that measure after ``step``; all at the end."""
        every = [getattr(one, "every_n_steps", None) or self.every_n_steps for one in self.evaluators]
        return [one for one, n in zip(self.evaluators, every, strict=True) if step % n == 0 or step == self.max_steps]

    def _names(self, measured: list[Evaluator], scores: Scores) -> set[str] | None:
        """See :attr:`Pretraining.metrics`."""
        self._known |= {f"heldout/{name}" for name in scores}
        self._unknown = [one for one in self._unknown if one not in measured]
        return None if self._unknown else self._known

    def _failed(self, evaluator: Evaluator, error: Exception) -> None:
        """What cannot be measured (all samples of one class, say) is no reason to lose what is learned."""
        if str(error) not in self._told:
            self._told.add(str(error))
            log.warning("%s; the run goes on without these values", error)

    def _report(self, step: int) -> None:
        """Held-out samples that could not be used go to quarantine, once a run, and count against no budget."""
        found = [one for evaluator in self.evaluators for one in getattr(evaluator, "rejected", ())]
        if not found:
            return
        there = rows(self.directory, damaged=True)  # a line that is none ends no run that is under way
        known = {(r.get("task"), r.get("shard"), r.get("key")) for r in there if r.get("split") == HELD_OUT}
        new = [one for one in found if (one.task, one.shard, one.key) not in known]
        write(self.directory, 0, step, HELD_OUT, new)


@contextmanager
def _a_full_disk_is_a_warning(what: str) -> Iterator[None]:
    """Training is worth more than what is written beside it; the next measurement replaces what is missing now."""
    try:
        yield
    except OSError as error:
        log.warning("%s cannot be written: %s; the run goes on", what, error.strerror or error)
