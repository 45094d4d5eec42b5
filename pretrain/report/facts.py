"""What a run directory says about its run, read without anything that trains (no torch)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError
from pretrain import datacard
from pretrain.evaluation import results as evaluations
from pretrain.evaluation import shown
from pretrain.report.rejected import Rejected, read_rejected
from pretrain.report.rows import Row, read_rows
from pretrain.run import CONFIG, EVENTS, METRICS, QUARANTINE, RESULTS, SPEED, STARTS, is_start

HIDDEN = "(hidden)"
_SECRET = re.compile(r"(?i)(password|passwd|secret|credential|api_?key|access_?key|auth|(?<![a-z])token$)")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(\w+://[^\s?]+)\?\S+")


@dataclass(frozen=True)
class Facts:
    """The content of a run's files.

    Attributes:
        path: of the run directory.
        config: resolved, with secrets hidden.
        metrics, speed: rows by step; of long runs a part.
        starts: rows of ``starts.jsonl``.
        events: rows of ``events.jsonl``.
        rejected: samples that could not be used.
        results: ``{"step": ..., "metrics": ..., "tables": ...}`` of the last measurement, or None.
        shown: what evaluators show of held-out samples; see :mod:`pretrain.evaluation.shown`.
        card: what its sources hold; see :mod:`pretrain.datacard`.
    """

    path: Path
    config: dict[str, Any]
    metrics: list[Row]
    speed: list[Row]
    starts: list[Row]
    events: list[Row]
    rejected: Rejected
    results: dict[str, Any] | None
    shown: list[Row]
    card: list[Row]

    @property
    def step(self) -> int:
        """The last step that was written down."""
        return max((int(row["step"]) for row in self.metrics[-1:]), default=0)

    @property
    def resumes(self) -> list[int]:
        """Steps at which the run went on after an interruption."""
        return [row["step"] for row in self.starts[1:] if row["step"] > 0]


def read_facts(path: Path) -> Facts:
    """Reads what there is; files that a young run lacks are empty.

    Raises:
        InputError: ``path`` is no run directory.
    """
    if not (path / CONFIG).is_file():
        raise InputError(f"'{path}' is no run directory (it has no {CONFIG})")
    try:
        config = yaml.load((path / CONFIG).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):
        raise InputError(f"'{path / CONFIG}' is not the config of a run any more")
    return Facts(
        path=path,
        config=without_secrets(config),
        metrics=_with_evaluations(read_rows(path / METRICS), path),
        speed=read_rows(path / SPEED),
        starts=without_secrets(list(filter(is_start, read_rows(path / STARTS)))),
        events=read_rows(path / EVENTS),
        rejected=read_rejected(sorted(path.glob(f"{Path(QUARANTINE).stem}*.jsonl"))),
        results=_newest(_results(path / RESULTS), evaluations.all_of(path)),
        shown=shown.all_of(path),
        card=without_secrets(datacard.read(path)),
    )


def without_secrets(value: Any, key: str = "") -> Any:
    """``value`` with logins in URLs, signatures behind them, and what keys call a secret replaced."""
    if isinstance(value, Mapping):
        return {name: without_secrets(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner, key) for inner in value]
    if isinstance(value, str):
        name, equals, _ = value.partition("=")
        if _SECRET.search(key):
            return HIDDEN
        if equals and "://" not in name and _SECRET.search(name):
            return f"{name}={HIDDEN}"
        return _QUERY.sub(rf"\1?{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", value))
    return value


def _with_evaluations(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The rows of steps, with what ``pretrain evaluate`` has measured there; what the run measured itself counts."""
    found = {row["step"]: row for row in rows if isinstance(row.get("step"), int)}
    for one in evaluations.all_of(path):
        own = {f"heldout/{name}": score["value"] for name, score in one["metrics"].items()}
        found[one["step"]] = {"step": one["step"], **own, **found.get(one["step"], {})}
    return [found[step] for step in sorted(found)]


def _newest(results: dict[str, Any] | None, later: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What was measured last, by the run and by ``pretrain evaluate`` together where that is of one step."""
    newest = later[-1] if later else None
    if newest is None or (results is not None and results["step"] > newest["step"]):
        return results
    own = results if results is not None and results["step"] == newest["step"] else None
    return {"step": newest["step"], **evaluations.joined(own, newest, own and evaluations.of_its_step(own))}


def _results(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("metrics"), dict) else None
