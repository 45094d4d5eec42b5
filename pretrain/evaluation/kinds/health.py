"""Whether embeddings use the space they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.embedding.extract import OWN
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.health import alignment, effective_rank, uniformity
from pretrain.evaluation.scores import Scores
from pretrain.model import Model


class Health(EmbeddingEvaluator):
    """Effective rank and uniformity of one or two encoders; of two also how near the halves of a pair are.

    Args:
        encoder: its name; None: the run's only one.
        pair: name of the encoder of a pair's other half; None: none.
        source: held-out samples.
        embed_dim: size of the joint space; needed for alignment; None: the encoders' own features.
        pool, samples, every_n_steps: see :class:`EmbeddingEvaluator`.
    """

    def __init__(
        self,
        encoder: str | None = None,
        source: Any = None,
        pair: str | None = None,
        embed_dim: int | None = None,
        pool: str = OWN,
        samples: int | None = None,
        every_n_steps: int | None = None,
    ) -> None:
        encoders = {"a": encoder} | ({} if pair is None else {"b": pair})
        super().__init__(encoders, {"source": source}, None, embed_dim, pool, samples, every_n_steps)

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """``ENCODER_effective_rank`` and ``ENCODER_uniformity``, and ``alignment``; none has a value for guessing."""
        rows = embedded["source"].rows
        scores: Scores = {}
        for side, name in self.sides("source").items():
            scores[f"{name}_effective_rank"] = {"value": effective_rank(rows[side])}
            scores[f"{name}_uniformity"] = {"value": uniformity(rows[side])}
        if len(rows) == 2 and self.embed_dim is not None:
            scores["alignment"] = {"value": alignment(rows["a"], rows["b"])}
        return scores
