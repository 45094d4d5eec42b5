"""Finding the other half of a pair."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from data.errors import InputError
from data.loading.loader import Rejected
from data.store.store import Store
from modalities.contrastive import recall
from pretrain.evaluation.samples import WAITS, Samples, Waits
from pretrain.evaluation.scores import Scores
from pretrain.model import Model, check_sides


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
