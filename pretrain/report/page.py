"""The page of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import yaml

from data.words import duration
from pretrain.report import listing
from pretrain.report.axis import words
from pretrain.report.chart import Chart
from pretrain.report.data import data
from pretrain.report.document import document, save
from pretrain.report.facts import Facts, read_facts
from pretrain.report.figures import Figures, totals
from pretrain.report.gallery import galleries
from pretrain.report.happened import happened
from pretrain.report.table import table

NAME = "report.html"


def write_report(run: Path, target: Path | None = None) -> Path:
    """Writes the report of the run directory ``run`` to ``target`` (in it, if None), as a whole or not at all.

    Raises:
        InputError: ``run`` is no run directory.
        OSError: it cannot be written.
    """
    target = run / NAME if target is None else target
    return save(page(read_facts(run)), target)


def page(facts: Facts) -> str:
    """The HTML of the report."""
    figures = Figures(facts)
    name = str(facts.config.get("name") or facts.path.name)
    parts = [_head(facts, name), _results(facts), *map(listing.html, listing.all_of(facts.results))]
    for task in figures.tasks:
        parts.append(_section(task, _about(facts.config["tasks"][task]), figures.of_task(task)))
    for evaluator, charts in figures.beyond():
        parts.append(_section(evaluator, "measured on held-out data; no task trains it by itself", charts))
    parts.append(_section("Optimisation", "", figures.optimisation()))
    parts.append(_section("Speed", "", figures.speed()))
    parts += [galleries(facts.shown), data(facts), _events(facts), _config(facts)]
    return document(name, parts)


def _head(facts: Facts, name: str) -> str:
    found, goal = totals(facts), int(facts.config.get("max_steps") or 0)
    share = min(1.0, facts.step / goal) if goal else 0.0
    state = "finished" if goal and facts.step >= goal else f"{100 * share:.0f} % of {goal:,} steps"
    tiles = [("step", f"{facts.step:,}", state)]
    if found["loss"] is not None:
        tiles.append(("loss", words(found["loss"]), "all tasks, weighted"))
    if found["rate"] is not None:
        tiles.append(
            ("samples a second", words(found["rate"]), f"{100 * found['wait']:.1f} % of the time waiting for data")
        )
        tiles.append(("computing", duration(found["seconds"]), _starts(facts)))
    kinds = facts.rejected.kinds
    if kinds:
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(3))
        tiles.append(("quarantine", f"{kinds.total():,}", told))
    cards = "".join(
        f"<div><dt>{escape(t)}</dt><dd>{escape(v)}</dd><small>{escape(s)}</small></div>" for t, v, s in tiles
    )
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<header><h1>{escape(name)}</h1><p class="path">{escape(str(facts.path))}</p><p class="now">as of {now}</p>'
        f'<div class="bar" role="img" aria-label="{escape(state)}"><i style="width:{100 * share:.1f}%"></i></div>'
        f'<dl class="tiles">{cards}</dl></header>'
    )


def _starts(facts: Facts) -> str:
    last = facts.starts[-1] if facts.starts else {}
    where = str(last.get("host") or "")
    count = len(facts.starts)
    return f"{count} start{'s' * (count != 1)}" + (f", on {where}" if where else "")


def _results(facts: Facts) -> str:
    if facts.results is None or not facts.results["metrics"]:
        return ""
    rows = []
    for name, score in facts.results["metrics"].items():
        value, chance = float(score["value"]), score.get("chance")
        share = "accuracy" in name.rsplit("/", 1)[1] or "recall" in name
        most = 1.0 if share else max(value, float(chance or 0), 1e-12)
        bar = told = ""
        if chance is not None:
            told = words(float(chance))
            length, mark = (100 * min(1.0, max(0.0, number / most)) for number in (value, float(chance)))
            bar = f'<span class="meter"><i style="width:{length:.1f}%"></i><b style="left:{mark:.1f}%"></b></span>'
        older = f" <small>step {score['step']:,}</small>" if "step" in score else ""
        rows.append(f"<tr><td>{breakable(name)}{older}</td><td>{words(value)}</td><td>{told}</td><td>{bar}</td></tr>")
    return (
        f"<section><h2>Held out</h2><p>after step {facts.results['step']:,}; "
        "the mark on a bar is what guessing would give</p>"
        '<div class="wide"><table class="results"><thead><tr><th>metric</th><th>value</th><th>chance</th><th></th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _section(title: str, about: str, charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    told = f"<p>{escape(about)}</p>" if about else ""
    drawn = "".join(chart.html() for chart in charts)
    return f'<section><h2>{escape(title)}</h2>{told}<div class="charts">{drawn}</div></section>'


def _about(task: Mapping[str, Any]) -> str:
    objective = str((task.get("objective") or {}).get("_target_", "")).rsplit(".", 1)[-1]
    encoders = ", ".join(dict.fromkeys(map(str, (task.get("encoders") or {}).values())))
    return f"{objective} over {encoders}; {task.get('batch_size')} samples a step, weight {task.get('weight')}"


def _events(facts: Facts) -> str:
    rows = [
        f"<tr><td>{event.step:,}</td><td>{escape(event.time)}</td><td>{_text(event.text)}</td></tr>"
        for event in happened(facts)
    ]
    return table("What happened", ("step", "time (UTC)", ""), rows, "log")


def _config(facts: Facts) -> str:
    text = yaml.dump(facts.config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, width=110)
    return (
        f"<section><h2>Config</h2><details><summary>as resolved</summary><pre>{escape(text)}</pre></details></section>"
    )


def _text(lines: Sequence[str]) -> str:
    first, *more = map(escape, lines)
    return first + "".join(f"<br><small>{line}</small>" for line in more)


def breakable(name: str) -> str:
    """A metric's name, which on a phone breaks between its words."""
    return re.sub(r"[/_]", r"\g<0><wbr>", escape(name))
