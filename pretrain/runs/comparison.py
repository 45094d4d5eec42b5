"""Several runs side by side: what was set differently, and what came out. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.evaluation.results import step_of
from pretrain.run import METRICS, RunDirectory
from pretrain.runs.files import last_rows
from pretrain.runs.summary import Summary, summarise

_ABSENT = object()


@dataclass(frozen=True)
class Comparison:
    """Rows of values, one value a run, None where a run has none.

    Attributes:
        runs: their summaries.
        settings: dotted key -> what each run has of it, for keys in which they differ.
        results: held-out metric -> what each run measured last, and the last training loss.
        measured_at: the same names -> step at which each run measured that.
    """

    runs: list[Summary]
    settings: dict[str, list[Any]]
    results: dict[str, list[float | None]]
    measured_at: dict[str, list[int | None]]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        runs = [run.as_json() for run in self.runs]
        return {"runs": runs, "settings": self.settings, "results": self.results, "measured_at": self.measured_at}


def compare(folders: Iterable[Path]) -> Comparison:
    """Compares runs by their frozen configs and their results.

    Raises:
        InputError: a config cannot be read.
    """
    folders = list(folders)
    directories = [RunDirectory(str(folder), rank=-1) for folder in folders]
    configs = [flat(directory.frozen_config() or {}) for directory in directories]
    found = [directory.results() or {} for directory in directories]
    measured = [{name: one["value"] for name, one in each.get("metrics", {}).items()} for each in found]
    steps: list[dict[str, int | None]] = [
        {name: step_of(each, name) for name in each.get("metrics", {})} for each in found
    ]
    for folder, values, at in zip(folders, measured, steps, strict=True):
        for row in last_rows(folder / METRICS):
            values["training loss"], at["training loss"] = row.get("loss"), row.get("step")
    names = list(dict.fromkeys(name for values in measured for name in values))
    settings: dict[str, list[Any]] = {}
    for key in sorted({key for config in configs for key in config} - {"run_dir", "name"}):
        there = [config.get(key, _ABSENT) for config in configs]
        if any(value != there[0] for value in there):
            settings[key] = [None if value is _ABSENT else value for value in there]
    results = {name: [values.get(name) for values in measured] for name in names}
    measured_at = {name: [at.get(name) for at in steps] for name in names}
    return Comparison([summarise(folder) for folder in folders], settings, results, measured_at)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of a nested config; lists are values."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
