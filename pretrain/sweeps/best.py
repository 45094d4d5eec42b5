"""Which trials came out best, by what they measured on held-out data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.errors import InputError, choices
from pretrain.ending import DONE
from pretrain.evaluation.results import step_of
from pretrain.launchers.frozen import FOLDER
from pretrain.run import RunDirectory
from pretrain.sweeps.record import Sweep, Trial
from pretrain.sweeps.standing import Standing

MODES = ("min", "max")


@dataclass(frozen=True)
class Measured:
    """A trial that has a value.

    Attributes:
        trial: which one.
        value: of the metric.
        step: at which it was measured.
        done: whether that was its last.
    """

    trial: Trial
    value: float
    step: int
    done: bool


def ranking(sweep: Sweep, found: Sequence[Standing], metric: str, mode: str) -> list[Measured]:
    """The trials that have measured ``metric``, best first; a value that is no number comes last.

    Raises:
        InputError: none has.
    """
    results = {one.trial.number: RunDirectory(str(sweep.folder(one.trial)), rank=-1).results() or {} for one in found}
    names = {name for result in results.values() for name in result.get("metrics", {})}
    if metric not in names:
        raise InputError(f"no trial of '{sweep.path}' has measured '{metric}'; {choices(metric, names)}")
    measured = [
        Measured(one.trial, float(result["metrics"][metric]["value"]), step_of(result, metric), one.state == DONE)
        for one in found
        if metric in (result := results[one.trial.number]).get("metrics", {})
    ]
    sign = 1 if mode == MODES[0] else -1
    return sorted(measured, key=lambda one: (one.value != one.value, sign * one.value, one.trial.number))


def wanted(sweep: Sweep, metric: str | None, mode: str | None) -> tuple[str, str]:
    """The metric to judge by, and which values are good.

    As given; else what an optimizer goes by; else what the runs keep their best checkpoints by.

    Raises:
        InputError: neither says it.
    """
    kept: Mapping[str, Any] = sweep.search
    if not kept:
        config = RunDirectory(str(sweep.folder(sweep.trials[0]) / FOLDER), rank=-1).frozen_config()
        kept = config["checkpoint"]["keep_best"] if config is not None else {"metric": None, "mode": ""}
    metric = metric or kept["metric"]
    if metric is None:
        raise InputError("say by which held-out value: --metric NAME --mode min|max, or checkpoint.keep_best.metric")
    if mode is None and metric != kept["metric"]:
        raise InputError(f"say which values of '{metric}' are good: --mode min or --mode max")
    return str(metric), mode or str(kept["mode"])
