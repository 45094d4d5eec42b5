"""Runs whose numbers get sick, and what they wrote down of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pretrain import ledger
from pretrain.run import RunDirectory
from tests.integration.runs import SMALL

# Scales the gradient of the steps whose batch lies between two positions: what a bad stretch of data does.
FAULT = """
import pytorch_lightning as pl


class Fault(pl.Callback):
    def __init__(self, first: int, last: int, factor: str) -> None:
        self.first, self.last, self.factor = first, last, float(factor)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        objective = pl_module.model.tasks["mlm"].objective
        position = pl_module.start.position("mlm", batch.step, len(batch.places["mlm"]) * trainer.world_size)
        objective.__dict__.pop("step", None)
        if self.first <= position < self.last:
            plain = objective.step
            objective.step = lambda e, batches, step, weight: plain(e, batches, step, weight * self.factor)
"""
MLM = [
    *(one for one in SMALL if one.startswith(("data.", "evaluate.", "trainer.", "loader.", "schedule.", "tasks.mlm"))),
    *(one for one in SMALL if one.startswith("encoders.text")),
    *("experiment=mlm_tiny", "max_steps=30", "checkpoint.every_n_steps=5", "checkpoint.keep_last=9", "ledger=true"),
]
BACK = ["sick.window=8", "sick.patience=1", "sick.rewind.steps_back=3", "sick.rewind.skip_beyond=2"]


def command(run_dir: Path, first: int, last: int, factor: str, *more: str) -> list[str]:
    """A run whose steps ``first`` to ``last`` (counted from 1) are sick as long as nothing is left out."""
    fault = f"{{_target_: faulty.Fault, first: {4 * (first - 1)}, last: {4 * last}, factor: '{factor}'}}"
    return [*MLM, f"run_dir={run_dir}", f"+alarms.fault={fault}", "trusted_roots=[faulty]", *more]


def rows(run_dir: Path, file: str) -> list[dict[str, Any]]:
    return list(RunDirectory(str(run_dir), rank=-1).rows(file))


def seen(run_dir: Path) -> list[Any]:
    """What the ledger recorded, which must be what can be told from config and starts."""
    directory = RunDirectory(str(run_dir), rank=-1)
    recorded = list(ledger.recorded(directory, 1, 99))
    assert recorded == list(ledger.computed(directory, 1, 99))
    return recorded


def alarmed(run_dir: Path, policy: str, from_step: int, *more: str) -> list[str]:
    """A run whose loss is above a limit from a step on."""
    limits = f"task: mlm, metric: loss, high: 1, from_step: {from_step}, window: 1, policy: {policy}"
    node = f"{{_target_: pretrain.callbacks.limits.Limits, {limits}}}"
    return [*MLM, f"run_dir={run_dir}", f"+alarms.loss={node}", *BACK, "max_steps=16", *more]
