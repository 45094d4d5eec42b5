"""What was measured of single checkpoints: ``RUN/evaluations/step-00000240.json``. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pretrain.checkpoint.disk import make, replace
from pretrain.checkpoint.folder import NAME, directory_name

FOLDER = "evaluations"


def path_of(run: Path, step: int) -> Path:
    """The file of a step."""
    return run / FOLDER / f"{directory_name(step)}.json"


def baseline_of(run: Path) -> Path:
    """The file of the model as it began, before any step."""
    return run / FOLDER / "untrained.json"


def read(path: Path) -> dict[str, Any] | None:
    """What :func:`write` wrote; None where there is no such file of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    sound = isinstance(found, dict) and isinstance(found.get("step"), int) and isinstance(found.get("metrics"), dict)
    return found if sound else None


def all_of(run: Path) -> list[dict[str, Any]]:
    """Those of all steps, in their order."""
    paths = sorted(path for path in (run / FOLDER).glob("*.json") if NAME.fullmatch(path.stem))
    return sorted((found for path in paths if (found := read(path))), key=lambda found: int(found["step"]))


def write(
    path: Path,
    step: int,
    checkpoint: str,
    averaged: bool,
    metrics: Mapping[str, Mapping[str, float]],
    tables: Mapping[str, Any] | None = None,
    evaluators: Iterable[str] = (),
) -> None:
    """Adds ``metrics`` and ``tables`` to what the file says of the same weights; what it says of others goes.

    Args:
        path: of the file.
        step: of the checkpoint.
        checkpoint: its digest.
        averaged: whether the moving average was measured.
        metrics: name -> value and chance.
        tables: evaluator -> what it says beyond numbers, see :func:`pretrain.evaluation.scores.tables_of`.
        evaluators: names of those that have measured, also of such as give no metrics.

    Raises:
        OSError: the disk does not take it.
    """
    old = read(path)
    same = old is not None and old.get("checkpoint") == checkpoint and old.get("averaged") == averaged
    measured = joined(old if same else None, {"metrics": metrics, "tables": tables or {}})
    names = sorted({*evaluators, *((old or {}).get("evaluators", ()) if same else ())})
    found = {"step": step, "checkpoint": checkpoint, "averaged": averaged, "evaluators": names, **measured}
    make(path.parent)
    replace(path, (json.dumps(found, indent=1) + "\n").encode())


def joined(*parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """``metrics`` and ``tables`` of several measurements of the same weights; the last that has one counts."""
    there = [part for part in parts if part is not None]
    kinds = ("metrics", "tables")
    return {kind: {name: one for part in there for name, one in part.get(kind, {}).items()} for kind in kinds}


def step_of(found: Mapping[str, Any], metric: str) -> int:
    """The step at which ``metric`` of ``results.json`` was measured; evaluators may measure at different ones."""
    return int(found["metrics"][metric].get("step", found["step"]))


def until(found: Mapping[str, Any], step: int) -> dict[str, Any] | None:
    """``results.json`` without what was measured after ``step``, as it stood when the rest was; None if there is none.

    A value that a later one has replaced is not known any more; whoever measured it does so again.
    """
    at = {name: own for name in found["metrics"] if (own := step_of(found, name)) <= step}
    if not at:
        return None
    newest, metrics = max(at.values()), {}
    for name, own in at.items():
        plain = {key: value for key, value in found["metrics"][name].items() if key != "step"}
        metrics[name] = plain if own == newest else {"step": own, **plain}
    tables = found.get("tables", {})
    # An evaluator's table is as old as its numbers, which are named after it.
    kept = {name: one for name, one in tables.items() if any(metric.startswith(f"{name}/") for metric in metrics)}
    return {"step": newest, "metrics": metrics} | ({"tables": kept} if kept else {})


def of_its_step(found: Mapping[str, Any]) -> dict[str, Any]:
    """``results.json`` of a run without the metrics that were measured last at an earlier step."""
    return {**found, "metrics": {name: one for name, one in found["metrics"].items() if "step" not in one}}


def drop_after(run: Path, step: int) -> None:
    """Removes those of steps after ``step``: the run has gone back, and will come there with other weights."""
    for found in (run / FOLDER).glob("*.json"):
        match = NAME.fullmatch(found.stem)
        if match and int(match.group(1)) > step:
            found.unlink(missing_ok=True)
