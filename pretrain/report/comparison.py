"""The page of several runs: curves of each metric in one figure, what was set differently, what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.words import duration
from pretrain.report.axis import words
from pretrain.report.chart import Chart, Line
from pretrain.report.curve import curve_of
from pretrain.report.document import document, save
from pretrain.report.facts import Facts, read_facts, without_secrets
from pretrain.report.figures import HELD_OUT, points
from pretrain.report.table import table
from pretrain.runs.comparison import Comparison, compare
from pretrain.runs.words import share

LOOKS = 8
"""Colours; further runs begin again with the first."""
MOST = 24
"""Runs on a page: more curves in a figure cannot be told apart."""
_COUNTED = ("samples", "epoch")
_POINTS = (24, 120)
"""Of a curve, fewest and most: so many that all of them take some two megabytes."""
_ROOM = 2_000_000 // 45


def write_comparison(folders: Iterable[Path], target: Path) -> Path:
    """Writes the page of the run directories ``folders``, as a whole or not at all.

    Raises:
        InputError: one is no run directory, or its config cannot be read.
        OSError: it cannot be written.
    """
    folders = list(folders)
    return save(page(compare(folders), [read_facts(folder) for folder in folders]), target)


def page(found: Comparison, facts: Sequence[Facts]) -> str:
    """The HTML of the page."""
    names = _names([run.path for run in found.runs])
    head = (
        f"<header><h1>{len(names)} runs</h1>"
        f'<ul class="runs">{"".join(_legend(n, name) for n, name in enumerate(names))}</ul></header>'
    )
    parts = [head, _state(found, names), _results(found, names), _settings(found, names)]
    sections: dict[str, list[Chart]] = {}
    metrics = _metrics(facts)
    at_most = max(_POINTS[0], min(_POINTS[1], _ROOM // max(1, len(metrics) * len(names))))
    for metric in metrics:
        chart = _chart(metric, facts, names, at_most)
        if chart is not None:
            plain = metric.removeprefix(HELD_OUT)
            sections.setdefault(plain.partition("/")[0] if "/" in plain else "Optimisation", []).append(chart)
    for title in sorted(sections, key=lambda title: title == "Optimisation"):
        drawn = "".join(chart.html() for chart in sections[title])
        parts.append(f'<section><h2>{escape(title)}</h2><div class="charts">{drawn}</div></section>')
    return document(f"{len(names)} runs", parts)


def _names(paths: Sequence[str]) -> list[str]:
    """What sets the paths apart: without the folders that all have in common."""
    parts = [Path(path).parts for path in paths]
    common = 0
    while all(len(one) > common + 1 and one[common] == parts[0][common] for one in parts):
        common += 1
    return ["/".join(one[common:]) for one in parts]


def _legend(number: int, name: str) -> str:
    return f'<li><i class="run{number % LOOKS}"></i>{escape(name)}</li>'


def _metrics(facts: Sequence[Facts]) -> list[str]:
    """Names of all that any run has rows of; training before held-out of the same task."""
    names = dict.fromkeys(name for one in facts for row in one.metrics for name in row)
    kept = [name for name in names if name != "step" and name.rsplit("/", 1)[-1] not in _COUNTED]
    return sorted(kept, key=lambda name: (name.removeprefix(HELD_OUT).partition("/")[0], name.startswith(HELD_OUT)))


def _chart(metric: str, facts: Sequence[Facts], names: Sequence[str], at_most: int) -> Chart | None:
    held = metric.startswith(HELD_OUT)
    lines = []
    for number, (one, name) in enumerate(zip(facts, names, strict=True)):
        curve = curve_of(points(one.metrics, metric), noisy=not held and metric != "lr", at_most=at_most)
        if curve is not None:
            dots = held and len(curve.steps) <= 60
            lines.append(Line(name, curve, f"run{number % LOOKS}", dots=dots, faint=False))
    if not lines:
        return None
    plain = metric.removeprefix(HELD_OUT)
    title = plain.partition("/")[2] or plain
    shares = metric.endswith("accuracy") or "recall" in metric or metric == "lr"
    until = max(one.step for one in facts)
    words_ = title.replace("_", " ").replace("/", ", ") + (", held out" if held else "")
    return Chart(words_, lines, until=until, log=not shares, legend=False)


def _state(found: Comparison, names: Sequence[str]) -> str:
    rows = []
    for run, name in zip(found.runs, names, strict=True):
        steps = f"{run.step:,}" + (f" of {run.max_steps:,}" if run.max_steps else "")
        rate = words(run.samples_per_s) if run.samples_per_s else ""
        cells = (run.state, steps, rate, share(run.goodput), duration(run.at_work_s) if run.at_work_s else "")
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    head = ("run", "state", "step", "samples/s", "goodput", "at work")
    return table("How they stand", head, rows, "compared")


def _results(found: Comparison, names: Sequence[str]) -> str:
    rows = []
    for metric, values in found.results.items():
        cells = "".join(f"<td>{'' if value is None else words(float(value))}</td>" for value in values)
        rows.append(f"<tr><td>{escape(metric)}</td>{cells}</tr>")
    return table("End results", ("metric", *names), rows, "compared")


def _settings(found: Comparison, names: Sequence[str]) -> str:
    rows = []
    for key, values in found.settings.items():
        shown = [without_secrets(value, key.rpartition(".")[2]) for value in values]
        cells = "".join(f"<td>{escape(_text(value))}</td>" for value in shown)
        rows.append(f"<tr><td>{escape(key)}</td>{cells}</tr>")
    return table("Set differently", ("key", *names), rows, "compared")


def _text(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)
