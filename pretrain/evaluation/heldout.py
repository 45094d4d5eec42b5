"""A task's own metrics on held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from data.loading.loader import Rejected
from data.shards.sources import open_sources
from data.store.store import Store
from data.stream import Stream
from modalities.objective import Step
from pretrain.evaluation.samples import WAITS, Samples, Waits
from pretrain.evaluation.scores import Scores
from pretrain.model import Model, Task


class EvaluationStep(Step):
    """Randomness of a measurement: that of the objective's name, so that each measurement draws the same."""

    def seed(self, micro: int) -> None:
        """See :class:`Step`."""
        torch.manual_seed(micro)


class Heldout:
    """A task's own metrics on its held-out sources, each source for itself."""

    def __init__(
        self,
        task: Task,
        source: Any,
        samples: int,
        batch_size: int,
        waits: Waits = WAITS,
        store: Store | None = None,
    ) -> None:
        self.task = task
        parts = source if isinstance(source, Mapping) else {"": source}
        self.parts = {}
        for name, entry in parts.items():
            pattern = entry["pattern"] if isinstance(entry, Mapping) else entry
            label = f"{task.name}.{name}" if name else task.name
            self.parts[name] = Samples(label, pattern, task.prepare, samples, batch_size, waits, store)

    @property
    def streams(self) -> list[Stream]:
        """What it reads."""
        return [part.stream for part in self.parts.values()]

    @property
    def rejected(self) -> list[Rejected]:
        """Held-out samples that are left out."""
        return [one for part in self.parts.values() for one in part.rejected]

    def __call__(self, model: Model) -> Scores:
        """``TASK/METRIC`` or ``TASK/SOURCE/METRIC`` -> value and chance; nothing where no sample can be used."""
        scores: Scores = {}
        for name, part in self.parts.items():
            batches = part.batches(model)
            if not batches:
                continue
            found = self.task.objective.measure(model.sides(self.task.sides), batches, EvaluationStep())
            prefix = f"{self.task.name}/{name}/" if name else f"{self.task.name}/"
            scores |= {prefix + metric: score for metric, score in found.items()}
        return scores


def check_heldout(
    task: str, source: Any, needs: Mapping[str, tuple[str, ...]], store: Store, max_share: float = 0.0
) -> None:
    """Opens a held-out source and checks that its samples, but for ``max_share``, have what they need.

    Raises:
        InputError: see :meth:`data.shards.source.Source.require`.
    """
    for opened in open_sources(f"{task}.heldout", source, store)[0]:
        opened.require(needs, max_share)
