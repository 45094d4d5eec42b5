"""The last lines a person sees. Imports no torch: a run that is done says so at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

from data.errors import InputError
from pretrain import checkpoint, resume
from pretrain.evaluation import results as evaluations
from pretrain.report import listing
from pretrain.run import RunDirectory

Scores: TypeAlias = Mapping[str, Mapping[str, float]]

log = logging.getLogger("pretrain")


def report(directory: RunDirectory, began: int, max_steps: int) -> None:
    """The last lines a person sees: what was measured, and where everything is."""
    results = directory.results()
    if results is not None:
        began_with = evaluations.read(evaluations.baseline_of(directory.path))
        log.info("%s", table(results["metrics"], began_with["metrics"] if began_with else None))
        for one in listing.all_of(results, ("behaviour",)):
            log.info("%s", listing.lines(one))
    done = f"done: {max_steps} steps"
    if began >= max_steps:
        done = f"the run is at step {began} of max_steps={max_steps}: nothing left to do"
    log.info("%s; everything is in %s", done, directory.path)


def table(scores: Scores, untrained: Scores | None = None) -> str:
    """Lines of name, value and chance, aligned; of the model as it began also the value, where that is known.

    A metric that was measured last at an earlier step than the others says at which.
    """
    told = {name: f"{name} (step {score['step']:,})" if "step" in score else name for name, score in scores.items()}
    width = max(map(len, told.values()), default=0)
    columns = {"value": scores, "untrained": untrained} if untrained is not None else {"value": scores}
    lines = [f"{'held out':<{width}}" + "".join(f"  {name:>9}" for name in (*columns, "chance"))]
    for name, score in scores.items():
        values = [known[name]["value"] if name in known else None for known in columns.values()]
        cells = [f"{'' if value is None else format(value, '.4g'):>9}" for value in (*values, score.get("chance"))]
        lines.append("  ".join((f"{told[name]:<{width}}", *cells)))
    return "\n".join(lines)


def finished(config: Mapping[str, Any]) -> int | None:
    """The step at which the run that ``config`` describes is done already; None if there may be something to do.

    In doubt there is: only a sound checkpoint of the last step, of a run with the same model and data order, says that
    a job was started again for nothing. What the data is now is not looked at.

    Args:
        config: of the run, resolved.
    """
    directory = RunDirectory(config["run_dir"], rank=-1)
    newest = next(iter(checkpoint.published(directory.checkpoints)), None)
    if newest is None or checkpoint.step_of(newest) < config["max_steps"]:
        return None
    try:
        frozen = directory.frozen_config()
        if frozen is None or any(what for what, _, _ in resume.split_changes(frozen, config).values()):
            return None
        checkpoint.verify(newest)
    except (InputError, checkpoint.Damaged):
        return None
    return checkpoint.step_of(newest)
