"""Held-out measurements: every metric with the value that guessing would give."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from data.errors import InputError
from data.loading.loader import Rejected, TaskData, prepare_at
from data.loading.units import describe
from data.loading.watch import Watchdog, seats
from data.shards.sources import open_sources
from data.store.store import Store
from data.stream import Stream
from modalities.contrastive import recall
from modalities.objective import Step
from pretrain.build import make
from pretrain.devices import moved
from pretrain.model import Model, Task, check_sides

log = logging.getLogger("pretrain")

Waits: TypeAlias = tuple[float, float]
WAITS: Waits = (30.0, 300.0)
Scores: TypeAlias = dict[str, dict[str, float]]
Evaluator: TypeAlias = Callable[[Model], Scores]


class EvaluationStep(Step):
    """Randomness of a measurement: that of the objective's name, so that each measurement draws the same."""

    def seed(self, micro: int) -> None:
        """See :class:`Step`."""
        torch.manual_seed(micro)


class Samples:
    """The first samples of a held-out source, prepared once and kept.

    Args:
        name: of the task or evaluator; seeds the masks, so that every measurement sees the same ones.
        source: pattern or patterns of one source.
        prepare: sample -> tensors; called with ``training=False``.
        samples: how many at most.
        batch_size: how many go through the model at once.
        waits: seconds that a batch may take to prepare until a warning says why, and until the run ends.
        store: where shards are read from.

    Attributes:
        rejected: samples that cannot be used and are left out, once the batches are prepared.
    """

    def __init__(
        self,
        name: str,
        source: Any,
        prepare: Any,
        samples: int,
        batch_size: int,
        waits: Waits = WAITS,
        store: Store | None = None,
    ) -> None:
        self.stream = Stream(f"{name}.heldout", source, seed=0, ordering=None, store=store)
        self.prepare, self.batch_size = prepare, batch_size
        self.samples = min(samples, len(self.stream))
        self.rejected: list[Rejected] = []
        self._waits = waits
        self._batches: list[dict[str, Any]] | None = None

    def batches(self, model: Model) -> list[dict[str, Any]]:
        """The prepared batches, on the model's device."""
        device = next(model.parameters()).device
        if self._batches is None:
            self._batches = self._prepare()
        return [moved(batch, device) for batch in self._batches]

    def _prepare(self) -> list[dict[str, Any]]:
        data = TaskData(self.stream, self.prepare, self.batch_size)
        seat, batches = seats(1)[0], []
        late = Watchdog(lambda: f"held-out data: {describe(seat.doing(), {self.stream.task: data})}", *self._waits)
        with late.watching():
            for begin in range(0, self.samples, self.batch_size):
                late.begin()
                positions = range(begin, min(begin + self.batch_size, self.samples))
                unit = prepare_at(data, positions, training=False, seat=seat)
                late.end()
                self.rejected += unit.rejected
                batches += [unit.batch] if len(unit.places) else []
        for one in self.rejected:
            log.warning("held-out sample %s; it is left out", one)
        return batches


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


class Retrieval:
    """recall@k between two encoders in a joint space, also for a pair that no task trains.

    Args:
        encoders: ``a`` and ``b`` -> names of encoders.
        source: held-out samples that have both sides.
        prepare: as of a contrastive task.
        embed_dim: size of the joint space; both encoders must have a projection to it.
        k: how many guesses count.
    """

    def __init__(self, encoders: dict[str, str], source: Any, prepare: Any, embed_dim: int, k: int = 1) -> None:
        if set(encoders) != {"a", "b"}:
            raise InputError(f"encoders must name the sides a and b, got {', '.join(sorted(encoders)) or 'none'}")
        self.encoders, self.source, self.prepare, self.embed_dim, self.k = encoders, source, prepare, embed_dim, k
        self.name = ""
        self.data: Samples | None = None

    @property
    def rejected(self) -> list[Rejected]:
        """Held-out samples that are left out."""
        return self.data.rejected if self.data else []

    def open(
        self,
        name: str,
        samples: int,
        batch_size: int,
        waits: Waits = WAITS,
        store: Store | None = None,
        max_share: float = 0.0,
    ) -> None:
        """Finds its data.

        Raises:
            InputError: the source matches nothing or lacks a member.
        """
        self.name = name
        self.data = Samples(name, self.source, self.prepare, samples, batch_size, waits, store)
        for source in self.data.stream.sources:
            source.require(self.prepare.needs, max_share)

    def missing(self, model: Model) -> str | None:
        """Why this run cannot be measured so, None if it can."""
        for name in self.encoders.values():
            if name not in model.encoders:
                return f"encoder '{name}' is not part of this run"
            if str(self.embed_dim) not in model.encoders[name].projections:  # type: ignore[operator, union-attr]
                return f"no task gives encoder '{name}' a projection to {self.embed_dim} features"
        check_sides(f"evaluators.{self.name}", self.prepare, self.encoders, dict(model.encoders.items()), {})  # type: ignore[arg-type]
        return None

    @torch.no_grad()
    def __call__(self, model: Model) -> Scores:
        """``NAME/A_to_B_recall@K`` both ways; nothing where no sample can be used."""
        assert self.data is not None
        batches = self.data.batches(model)
        if not batches:
            return {}
        sides = model.sides(self.encoders)
        rows: dict[str, list[torch.Tensor]] = {"a": [], "b": []}
        for batch in batches:
            for side, encoder in sides.items():
                rows[side].append(F.normalize(encoder.embed(batch[side], self.embed_dim).float(), dim=-1))
        found = recall(torch.cat(rows["a"]), torch.cat(rows["b"]), sides["a"].modality, sides["b"].modality, self.k)
        return {f"{self.name}/{metric}": score for metric, score in found.items()}


def check_heldout(
    task: str, source: Any, needs: Mapping[str, tuple[str, ...]], store: Store, max_share: float = 0.0
) -> None:
    """Opens a held-out source and checks that its samples, but for ``max_share``, have what they need.

    Raises:
        InputError: see :meth:`data.shards.source.Source.require`.
    """
    for opened in open_sources(f"{task}.heldout", source, store)[0]:
        opened.require(needs, max_share)


def build_evaluators(config: Mapping[str, Any], model: Model, store: Store) -> list[Evaluator]:
    """Held-out metrics of each task that has held-out data, then those under ``evaluators`` that this run can have."""
    samples, batch_size = config["evaluate"]["samples"], config["evaluate"]["batch_size"]
    waits = (config["loader"]["warn_after_s"], config["loader"]["deadline_s"])
    max_share = config["quarantine"]["max_share"]
    found: list[Evaluator] = []
    for name, spec in config["tasks"].items():
        if spec["heldout"] is not None:
            check_heldout(name, spec["heldout"], model.tasks[name].prepare.needs, store, max_share)
            found.append(Heldout(model.tasks[name], spec["heldout"], samples, batch_size, waits, store))
    for name, node in config["evaluators"].items():
        evaluator: Retrieval = make(node, f"evaluators.{name}", tuple(config["trusted_roots"]))
        evaluator.name = name
        reason = "it has no source" if evaluator.source is None else evaluator.missing(model)
        if reason:
            log.info("evaluator '%s' is left out: %s", name, reason)
            continue
        evaluator.open(name, samples, batch_size, waits, store, max_share)
        found.append(evaluator)
    return found
