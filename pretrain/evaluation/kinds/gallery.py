"""Held-out samples to look at: where their embeddings lie, and what is found for them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np

from data.errors import InputError
from data.loading.loader import Rejected
from pretrain.embedding.extract import OWN
from pretrain.evaluation.exhibit import exhibit
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.projection import nearest, plane
from pretrain.evaluation.scores import Scores
from pretrain.evaluation.setting import Setting
from pretrain.evaluation.shown import Exhibit, file_name
from pretrain.model import Model

MOST = 160
"""Samples that a map can hold; so many pictures fit on a sheet of bounded size."""


class Gallery(EmbeddingEvaluator):
    """Shows samples of a source in the report: a map of the embeddings of each encoder, and what each finds.

    It measures nothing. In a joint space every side is searched by every other; without one, samples by samples.

    Args:
        encoders: side -> name of an encoder; several need a joint space.
        source: held-out samples that have all sides.
        embed_dim: size of the joint space; None: the encoder's own features.
        samples: how many, 160 at most.
        queries: how many are searched by.
        k: how many of what is found are shown.
        label: where classes are, by which the map is coloured; None: nowhere.
        pool, every_n_steps, prepare: see :class:`EmbeddingEvaluator`.

    Attributes:
        shown: see :func:`pretrain.evaluation.exhibit.exhibit`; None until something was embedded.
    """

    gives = False

    def __init__(
        self,
        encoders: Mapping[str, str | None],
        source: Any,
        embed_dim: int | None = None,
        samples: int = MOST,
        queries: int = 4,
        k: int = 5,
        label: str | None = None,
        pool: str = OWN,
        every_n_steps: int | None = None,
        prepare: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        for name, value, most in (("samples", samples, MOST), ("queries", queries, 16), ("k", k, 16)):
            if not 1 <= value <= most:
                raise InputError(f"{name}={value} is not between 1 and {most}")
        if len(encoders) > 1 and embed_dim is None:
            raise InputError(f"{len(encoders)} encoders can be shown together in a joint space alone; give embed_dim")
        sources = {"source": source}
        super().__init__(encoders, sources, label, embed_dim, pool, samples, every_n_steps, prepare, views=True)
        self.queries, self.k = queries, k
        self.shown: Exhibit | None = None

    @property
    def rejected(self) -> list[Rejected]:
        """None: they are those of what measures the same samples."""
        return []

    def open(self, name: str, setting: Setting) -> None:
        """See :class:`EmbeddingEvaluator`."""
        super().open(file_name(name), setting)
        for passes in self.passes.values():
            passes.tells = False  # as with `rejected`

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """No value; see ``shown``."""
        found = embedded["source"]
        encoders = model.sides(self.sides("source"))
        maps = [self._map(side, rows) for side, rows in found.rows.items()]
        pairs = list(permutations(found.rows, 2)) or [(side, side) for side in found.rows]
        retrievals = [self._search(one, other, found.rows) for one, other in pairs]
        modalities = {side: encoder.modality for side, encoder in encoders.items()}
        self.shown = exhibit(modalities, found.views, found.labels, maps, retrievals)
        return {}

    def _map(self, side: str, rows: np.ndarray) -> dict[str, Any]:
        places, share = plane(rows)
        low, extent = places.min(0), np.ptp(places, 0)
        shares = np.where(extent > 0, (places - low) / np.where(extent > 0, extent, 1.0), 0.5)
        return {"side": side, "share": round(share, 4), "points": np.rint(1000 * shares).astype(int).tolist()}

    def _search(self, one: str, other: str, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        count = len(rows[one])
        queries = np.unique(np.linspace(0, count - 1, min(self.queries, count)).astype(int))
        found = nearest(rows[one][queries], rows[other], self.k, queries if one == other else None)
        return {"from": one, "to": other, "rows": np.column_stack([queries, found]).tolist()}
