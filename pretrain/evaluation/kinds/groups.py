"""A task's own held-out metrics for each group of samples: a language, a place, a speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from data.label import Label
from data.sample import Sample
from modalities.prepare import Batch, Item
from pretrain.devices import moved
from pretrain.evaluation.heldout import EvaluationStep
from pretrain.evaluation.kinds.evaluator import SourceEvaluator, check_count
from pretrain.evaluation.passes import Passes
from pretrain.evaluation.scores import Scores
from pretrain.evaluation.setting import Setting
from pretrain.model import Model, Task


class Groups(SourceEvaluator):
    """Loss, masked accuracy and whatever else a task measures, group by group; also a table of all groups.

    Args:
        task: its name; None: the run's only one.
        source: held-out samples.
        by: where a sample's group is, see :class:`pretrain.evaluation.labels.Label`: ``json.lang``.
        least: groups of fewer samples are counted in the table, but not measured.
        curves: each group's values are metrics, too; else the table alone has them.
        samples, every_n_steps: see :class:`SourceEvaluator`. All of them are in memory at once, prepared: of recordings
            ask for fewer.
    """

    def __init__(
        self,
        task: str | None = None,
        source: Any = None,
        by: str = "json.lang",
        least: int = 8,
        curves: bool = False,
        samples: int | None = 10_000,
        every_n_steps: int | None = None,
    ) -> None:
        super().__init__({"source": source}, samples, every_n_steps)
        check_count("least", least)
        self.label = Label(by)
        self.task, self.by, self.least, self.curves = task, by, least, curves
        self._task: Task | None = None

    def missing(self, model: Model) -> str | None:
        """See :class:`SourceEvaluator`."""
        if self.task is None and len(model.tasks) > 1:
            return f"the run has several tasks ({', '.join(model.tasks)}); give task"
        name = next(iter(model.tasks)) if self.task is None else self.task
        if name not in model.tasks:
            return f"task '{name}' is not part of this run"
        self._task = model.tasks[name]
        return super().missing(model)

    def open(self, name: str, setting: Setting) -> None:
        """See :class:`SourceEvaluator`."""
        assert self._task is not None
        self.name = name
        prepare = Grouped(self._task.prepare, self.label)
        samples = self.samples or setting.samples
        self.passes["source"] = Passes(f"{self._task.name}.{name}", self.sources["source"], prepare, samples, setting)
        self._size = setting.batch_size

    def scores_of(self, model: Model) -> Scores:
        """``groups``, their number, ``METRIC_lowest`` and ``METRIC_highest``; with ``curves`` ``GROUP/METRIC``."""
        assert self._task is not None
        groups = self._groups()
        device = next(model.parameters()).device
        found: dict[str, Scores] = {}
        for group, items in groups.items():
            if len(items) >= self.least:
                batches = [
                    moved(self._task.prepare.collate(items[begin : begin + self._size]), device)
                    for begin in range(0, len(items), self._size)
                ]
                found[group] = self._task.objective.measure(model.sides(self._task.sides), batches, EvaluationStep())
        self._tell(groups, found)
        return self._scores(found)

    def _groups(self) -> dict[str, list[Item]]:
        """Group -> prepared samples, the largest group first."""
        found: dict[str, list[Item]] = {}
        for batch in self.passes["source"].batches():
            for group, item in zip(batch["groups"], batch["items"], strict=True):
                found.setdefault(group, []).append(_own(item))
        return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0])))

    def _tell(self, groups: Mapping[str, Sequence[Item]], found: Mapping[str, Scores]) -> None:
        metrics = list(dict.fromkeys(metric for scores in found.values() for metric in scores))
        shares = [one for one in metrics if any("chance" in scores.get(one, {}) for scores in found.values())]
        shares = [one for one in shares if "accuracy" in one or "recall" in one]
        rows = []
        for group, items in groups.items():
            scores = found.get(group, {})
            values = [scores.get(one, {}).get("value") for one in metrics]
            rows.append([group, len(items), *values, *(scores.get(one, {}).get("chance") for one in shares)])
        columns = [self.by.rpartition(".")[2], "samples>", *(f"{one.replace('_', ' ')}>" for one in metrics)]
        columns += [f"chance of {one.replace('_', ' ')}>" for one in shares]
        assert self._task is not None
        title = f"{self.name}: task {self._task.name} by {self.by}, {len(found)} of {len(groups)} groups measured"
        self.tables = [{"kind": "groups", "title": title, "columns": columns, "rows": rows}]

    def _scores(self, found: Mapping[str, Scores]) -> Scores:
        scores: Scores = {"groups": {"value": float(len(found))}}
        for metric in dict.fromkeys(metric for one in found.values() for metric in one):
            values = [one[metric]["value"] for one in found.values() if metric in one]
            scores |= {f"{metric}_lowest": {"value": min(values)}, f"{metric}_highest": {"value": max(values)}}
        if self.curves:
            scores |= {f"{group}/{metric}": score for group, one in found.items() for metric, score in one.items()}
        return scores


class Grouped:
    """Prepares samples as a task does, and tells their groups; they are put together later, group by group.

    Args:
        prepare: of the task.
        label: where the group is.
    """

    def __init__(self, prepare: Any, label: Label) -> None:
        self.prepare, self.label = prepare, label

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Those of the task, and the group."""
        return {**self.prepare.needs, "group": (self.label.member,)}

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"item": the task's, "group": ...}``."""
        return {"group": self.label(sample), "item": self.prepare(sample, rng, training)}

    def collate(self, items: list[Item]) -> Batch:
        """``{"items": B items, "groups": B groups, "size": B}``."""
        return {"items": [i["item"] for i in items], "groups": [i["group"] for i in items], "size": len(items)}


def _own(value: Any) -> Any:
    """A copy: a loader's memory is used again."""
    if isinstance(value, dict):
        return {key: _own(inner) for key, inner in value.items()}
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value
