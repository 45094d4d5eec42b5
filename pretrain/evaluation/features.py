"""Embeddings of a held-out source by encoders of a model, with classes. N samples, D features."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.loading.loader import Rejected, TaskData
from data.loading.once import OnceLoader
from data.stream import Stream
from modalities.view import View
from pretrain.devices import moved
from pretrain.embedding.extract import NONE, OWN, Extractor
from pretrain.evaluation.labels import Label, Labelled
from pretrain.evaluation.setting import Setting
from pretrain.model import Model

log = logging.getLogger("pretrain")


@dataclass
class Embedded:
    """What came out of N samples.

    Attributes:
        rows: side -> (N, D) float32.
        labels: the class of each; "" where it has none.
        views: of each, side -> what to look at; empty where that was not asked for.
    """

    rows: dict[str, np.ndarray]
    labels: list[str]
    views: list[dict[str, View]]

    def __len__(self) -> int:
        return len(self.labels)


class Features:
    """The first samples of a source, embedded anew for each state of the model, once.

    Args:
        name: of the evaluator, for messages.
        source: pattern or patterns of one source.
        sides: name of a side -> name of its encoder.
        label: where classes are, None: nowhere.
        embed_dim: features of the joint space; None: the encoders' own features.
        pool: see :class:`pretrain.embedding.extract.Extractor`.
        samples: how many at most.
        setting: of the run.
        changed: side -> arguments of what prepares it that are to be others.
        views: whether samples are to be looked at; made at the first measurement and kept.

    Attributes:
        rejected: samples that cannot be used and are left out, once they were read.

    Raises:
        InputError: the source matches nothing or lacks a member.
    """

    def __init__(
        self,
        name: str,
        source: Any,
        sides: Mapping[str, str],
        label: str | None,
        embed_dim: int | None,
        pool: str,
        samples: int,
        setting: Setting,
        changed: Mapping[str, Mapping[str, Any]],
        views: bool = False,
    ) -> None:
        self.sides, self.projection, self.pool, self.setting = dict(sides), str(embed_dim or NONE), pool, setting
        self.stream = Stream(f"{name}.heldout", source, seed=0, ordering=None, store=setting.store)
        beside, joint = set(sides.values()), embed_dim is not None
        prepares = {side: setting.inputs(one, beside, joint, changed.get(side)) for side, one in sides.items()}
        self.prepare = Labelled(prepares, Label(label) if label else None, views)
        for one in self.stream.sources:
            one.require(self.prepare.needs, setting.max_share)
        self.samples = min(samples, len(self.stream))
        self.rejected: list[Rejected] = []
        self._found: Embedded | None = None
        self._views: list[dict[str, View]] = []

    def forget(self) -> None:
        """The model is going to change."""
        self._found = None

    def __call__(self, model: Model) -> Embedded:
        """The embeddings by ``model`` as it is; kept until :meth:`forget`."""
        if self._found is None:
            self._found = self._embed(model)
        return self._found

    def _embed(self, model: Model) -> Embedded:
        size, device = self.setting.batch_size, next(model.parameters()).device
        batches = [range(begin, min(begin + size, self.samples)) for begin in range(0, self.samples, size)]
        data = TaskData(self.stream, self.prepare, size)
        loader = OnceLoader(data, batches, self.setting.workers, 4, *self.setting.waits)
        extractors = {
            side: Extractor(encoder, self.pool, self.projection) for side, encoder in model.sides(self.sides).items()
        }
        rows: dict[str, list[np.ndarray]] = {side: [] for side in self.sides}
        labels: list[str] = []
        rejected: list[Rejected] = []
        views: list[dict[str, View]] = []
        for step in loader:
            rejected += step.rejected
            (batch,) = step.tasks[self.stream.task]
            if not batch:
                continue
            labels += batch["labels"]
            views += batch["views"]
            for side, extractor in extractors.items():
                rows[side].append(extractor(moved(batch["sides"][side], device)).cpu().numpy())
        self._say(rejected)
        if self.prepare.views:  # once: the samples stay the same
            self.prepare.views, self._views = False, views
        empty = np.empty((0, 0), np.float32)
        whole = {side: np.concatenate(own) if own else empty for side, own in rows.items()}
        return Embedded(whole, labels, self._views)

    def _say(self, rejected: list[Rejected]) -> None:
        if not self.rejected:
            for one in rejected:
                log.warning("held-out sample %s; it is left out", one)
        self.rejected = rejected


def features_of(
    name: str,
    source: Any,
    sides: Mapping[str, str],
    setting: Setting,
    label: str | None = None,
    embed_dim: int | None = None,
    pool: str = OWN,
    samples: int | None = None,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    views: bool = False,
) -> Features:
    """Those of another evaluator of the run that asks for the same, or new ones; see :class:`Features`."""
    count = samples or setting.samples
    asked = (repr(source), tuple(sorted(sides.items())), label, embed_dim, pool, count, repr(changed), views)
    if asked not in setting.shared:
        changes = changed or {}
        setting.shared[asked] = Features(name, source, sides, label, embed_dim, pool, count, setting, changes, views)
    found: Features = setting.shared[asked]
    return found
