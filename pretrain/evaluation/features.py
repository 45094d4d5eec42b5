"""Embeddings of a held-out source by encoders of a model, with classes. N samples, D features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.label import Label
from modalities.view import View
from pretrain.devices import moved
from pretrain.embedding.extract import NONE, OWN, Extractor
from pretrain.evaluation.labels import Labelled
from pretrain.evaluation.passes import Passes
from pretrain.evaluation.setting import Setting
from pretrain.model import Model


@dataclass
class Embedded:
    """What came out of N samples.

    Attributes:
        rows: side -> (N, D) float32.
        labels: the class of each; "" where it has none.
        notes: what is known of each: its ``key``, and what its prepare adds.
        views: of each, side -> what to look at; empty where that was not asked for.
    """

    rows: dict[str, np.ndarray]
    labels: list[str]
    notes: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, View]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)


class Features(Passes):
    """Samples of a source, embedded anew for each state of the model, once.

    Args:
        name: of the evaluator, for messages.
        source: pattern or patterns of one source.
        sides: name of a side -> name of its encoder.
        prepare: makes of a sample what :class:`pretrain.evaluation.labels.Labelled` makes.
        embed_dim: features of the joint space; None: the encoders' own features.
        pool: see :class:`pretrain.embedding.extract.Extractor`.
        samples: how many at most; see :class:`pretrain.evaluation.passes.Passes`.
        setting: of the run.

    Raises:
        InputError: the source matches nothing or lacks a member.
    """

    def __init__(
        self,
        name: str,
        source: Any,
        sides: Mapping[str, str],
        prepare: Labelled,
        embed_dim: int | None,
        pool: str,
        samples: int,
        setting: Setting,
    ) -> None:
        super().__init__(name, source, prepare, samples, setting)
        self.sides, self.projection, self.pool = dict(sides), str(embed_dim or NONE), pool
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
        device = next(model.parameters()).device
        extractors = {
            side: Extractor(encoder, self.pool, self.projection) for side, encoder in model.sides(self.sides).items()
        }
        rows: dict[str, list[np.ndarray]] = {side: [] for side in self.sides}
        labels: list[str] = []
        notes: list[dict[str, Any]] = []
        for batch in self.batches():
            labels += batch["labels"]
            notes += batch["notes"]
            for side, extractor in extractors.items():
                rows[side].append(extractor(moved(batch["sides"][side], device)).cpu().numpy())
        if self.prepare.views:  # once: the samples stay the same
            self.prepare.views, self._views = False, [note.pop("view") for note in notes]
        empty = np.empty((0, 0), np.float32)
        whole = {side: np.concatenate(own) if own else empty for side, own in rows.items()}
        return Embedded(whole, labels, notes, self._views)


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
    """Those of another evaluator of the run that asks for the same, or new ones; see :class:`Features`.

    ``label`` says where classes are (None: nowhere); ``changed`` has arguments of what prepares a side that are others.
    """
    count = samples or setting.samples
    asked = (repr(source), tuple(sorted(sides.items())), label, embed_dim, pool, count, repr(changed), views)
    if asked not in setting.shared:
        beside, joint = set(sides.values()), embed_dim is not None
        prepares = {side: setting.inputs(one, beside, joint, (changed or {}).get(side)) for side, one in sides.items()}
        prepare = Labelled(prepares, Label(label) if label else None, views)
        setting.shared[asked] = Features(name, source, sides, prepare, embed_dim, pool, count, setting)
    found: Features = setting.shared[asked]
    return found
