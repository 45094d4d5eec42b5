"""The run's data: what its sources hold, what was drawn from them, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from data.words import byte_size, duration
from pretrain.report.axis import words
from pretrain.report.facts import Facts
from pretrain.report.table import table

_LANGUAGES = 8


def data(facts: Facts) -> str:
    """The section, "" where nothing is known."""
    known = {str(one["name"]): one for one in facts.card}
    # Not simply the last: that may be of `pretrain evaluate`, at a step that the run wrote no row of.
    counted = [row for row in facts.metrics if any(name.endswith("/samples") for name in row)]
    last = counted[-1] if counted else {}
    drawn = {
        _source(name.removesuffix("/samples")): (int(value), float(last.get(f"{name.removesuffix('samples')}epoch", 0)))
        for name, value in last.items()
        if name.endswith("/samples")
    }
    rows = []
    for name in dict.fromkeys([*known, *drawn]):
        one, (samples, epochs) = known.get(name, {}), drawn.get(name, (0, 0.0))
        holds = [f"{one['samples']:,} samples in {one['shards']:,} shards" if one else "", *_holds(one)]
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{_lines(holds)}</td><td>{_lines(_about(one))}</td>"
            f"<td>{samples:,}</td><td>{words(epochs)}</td><td>{facts.rejected.tasks[name.partition('.')[0]]:,}</td></tr>"
        )
    head = ("task.source", "holds", "languages, licence", "drawn", "epochs", "quarantine of the task")
    return table("Data", head, rows, "numbers data")


def _source(name: str) -> str:
    """``mlm/prose`` of a metric -> ``mlm.prose``; a task with one source, which is called as it is, alone."""
    task, _, source = name.partition("/")
    return f"{task}.{source}" if source and source != task else task


def _holds(one: Mapping[str, Any]) -> list[str]:
    found = []
    if one.get("bytes"):
        found.append(byte_size(one["bytes"]))
    about = "" if one.get("measured", 0) >= one.get("samples", 0) else "about "
    if "seconds" in one:
        found.append(f"{about}{duration(one['seconds'])} of sound")
    if "pictures" in one:
        found.append(f"{about}{one['pictures']:,} pictures")
    if "characters" in one:
        tokens = f", {words(one['tokens'])} tokens" if "tokens" in one else ""
        found.append(f"{about}{words(one['characters'])} characters{tokens}")
    return found


def _about(one: Mapping[str, Any]) -> list[str]:
    languages = one.get("languages", {})
    told = [f"{language} {100 * count / sum(languages.values()):.0f} %" for language, count in languages.items()]
    more = f" and {len(told) - _LANGUAGES} more" if len(told) > _LANGUAGES else ""
    licences = ", ".join(one.get("licences", {}))
    return [", ".join(told[:_LANGUAGES]) + more, f"licence: {licences or 'not stated'}"] if one else []


def _lines(lines: list[str]) -> str:
    kept = [escape(line) for line in lines if line]
    return kept[0] + "".join(f"<br><small>{line}</small>" for line in kept[1:]) if kept else ""
