"""Which figures a run's rows make: for each task, for measurements beyond them, for the optimisation and the speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pretrain.report.chart import Chart, Line
from pretrain.report.curve import Curve, curve_of
from pretrain.report.facts import Facts
from pretrain.report.reference import references, until
from pretrain.report.rows import Row

HELD_OUT = "heldout/"
_COUNTED = ("samples", "epoch")
_FIRST = ("loss", "masked_accuracy", "next_token_accuracy", "contrastive_accuracy", "code_perplexity", "batch_accuracy")
_LOOKS = 4
Marks = Sequence[tuple[int, str]]


class Figures:
    """The figures of one run.

    Args:
        facts: of the run.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.marks: Marks = [(step, f"resumed at step {step}") for step in facts.resumes]
        self.names = list(dict.fromkeys(name for row in facts.metrics for name in row))
        self.references = references(facts.config)
        scores = (facts.results or {}).get("metrics", {})
        self.chances = {name: score["chance"] for name, score in scores.items() if "chance" in score}
        self.tasks = list(facts.config.get("tasks") or {})

    def of_task(self, task: str) -> list[Chart]:
        """Each metric in training and, in the same figure, held out."""
        trained = {}
        for name in self.names:
            parts = name.split("/")
            if parts[0] == task and len(parts) == 2 and parts[1] not in _COUNTED:
                trained[parts[1]] = name
        measured = self._measured(f"{HELD_OUT}{task}/")
        metrics = sorted({**trained, **measured}, key=lambda m: (_FIRST.index(m) if m in _FIRST else len(_FIRST), m))
        return [c for m in metrics if (c := self._chart(m, trained.get(m), measured.get(m, []), task)) is not None]

    def beyond(self) -> list[tuple[str, list[Chart]]]:
        """(evaluator, its figures) for measurements that belong to no task."""
        known = {name.split("/")[1] for name in self.names if name.startswith(HELD_OUT)}
        found = []
        for evaluator in sorted(known - set(self.tasks)):
            measured = self._measured(f"{HELD_OUT}{evaluator}/")
            charts = [c for m, names in measured.items() if (c := self._chart(m, None, names, "")) is not None]
            if charts:
                found.append((evaluator, charts))
        return found

    def optimisation(self) -> list[Chart]:
        """Loss of all tasks, gradient norm, learning rate."""
        found = []
        for name, title in (
            ("loss", "loss, all tasks weighted"),
            ("gradient_norm", "gradient norm"),
            ("lr", "learning rate"),
        ):
            curve = curve_of(self._points(name), noisy=name != "lr")
            if curve is not None:
                found.append(
                    Chart(title, [Line("", curve, "train")], marks=self.marks, until=self.facts.step, log=name != "lr")
                )
        return found

    def speed(self) -> list[Chart]:
        """Samples a second, and the share of the time that was spent waiting for data."""
        rows = [row for row in self.facts.speed if row.get("seconds", 0) > 0]
        rate = curve_of((row["step"], row["samples"] / row["seconds"]) for row in rows)
        wait = curve_of((row["step"], 100 * row["data_wait"] / row["seconds"]) for row in rows)
        found = []
        for title, curve, unit in (("samples a second", rate, ""), ("waiting for data", wait, " %")):
            if curve is not None:
                found.append(
                    Chart(
                        title, [Line("", curve, "train")], marks=self.marks, until=self.facts.step, unit=unit, log=False
                    )
                )
        return found

    def _measured(self, prefix: str) -> dict[str, list[str]]:
        """Metric -> its names below ``prefix``, of several sources one each."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            if name.startswith(prefix):
                found.setdefault(name.rsplit("/", 1)[1], []).append(name)
        return found

    def _chart(self, metric: str, trained: str | None, measured: list[str], task: str) -> Chart | None:
        lines = []
        curve = curve_of(self._points(trained)) if trained is not None else None
        if curve is not None:
            lines.append(Line("training", curve, "train"))
        chances: dict[str, float] = {}
        for number, name in enumerate(measured):
            held = curve_of(self._points(name), noisy=False)
            if held is None:
                continue
            source = "/".join(name.split("/")[2:-1])
            label = f"held out, {source}" if source else "held out"
            lines.append(Line(label, held, f"held{number % _LOOKS}", dots=len(held.steps) <= 60))
            if name.removeprefix(HELD_OUT) in self.chances:
                chances[f"chance, {source}" if source else "chance"] = self.chances[name.removeprefix(HELD_OUT)]
        if not lines:
            return None
        line, band = self.references.get((task, metric), (None, None))
        shown = until(line, self.facts.step) if line is not None else None
        if shown is not None:
            lines.append(shown)
        share = metric.endswith("accuracy") or "recall" in metric
        return Chart(
            metric.replace("_", " "), lines, list(chances.items()), band, self.marks, self.facts.step, log=not share
        )

    def _points(self, name: str) -> Iterable[tuple[int, float]]:
        return points(self.facts.metrics, name)


def points(rows: Iterable[Row], name: str) -> Iterable[tuple[int, float]]:
    """(step, value) of a metric, of the rows that have it."""
    return ((row["step"], row[name]) for row in rows if _number(row.get(name)))


def totals(facts: Facts) -> dict[str, Any]:
    """``seconds`` computed, ``rate`` (samples a second) and ``wait`` (share) of the last tenth, ``loss``."""
    rows = [row for row in facts.speed if row.get("seconds", 0) > 0]
    late = rows[-max(1, len(rows) // 10) :] if rows else []
    spent = sum(row["seconds"] for row in late)
    loss: Curve | None = curve_of((row["step"], row["loss"]) for row in facts.metrics if _number(row.get("loss")))
    # Of a long run only a part of the rows is read: their mean stands for all.
    mean = sum(row["seconds"] for row in rows) / len(rows) if rows else 0.0
    return {
        "seconds": mean * facts.step,
        "rate": sum(row["samples"] for row in late) / spent if spent else None,
        "wait": sum(row["data_wait"] for row in late) / spent if spent else None,
        "loss": loss.last if loss is not None else None,
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
