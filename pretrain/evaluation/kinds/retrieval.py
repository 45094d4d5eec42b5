"""Finding the other half of a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.retrieval import recall
from pretrain.evaluation.scores import Scores
from pretrain.model import Model

SIDES = ("a", "b")


class Retrieval(EmbeddingEvaluator):
    """recall@k both ways between two encoders in a joint space, also for a pair that no task trains.

    Args:
        encoders: ``a`` and ``b`` -> names of encoders.
        source: held-out samples that have both sides.
        embed_dim: size of the joint space; both encoders must have a projection to it.
        k: how many guesses count, one number or several.
        group: where a sample's group is, as ``label`` of other evaluators; any of its group is right then.
        samples, every_n_steps, prepare: see :class:`EmbeddingEvaluator`.
    """

    def __init__(
        self,
        encoders: Mapping[str, str],
        source: Any,
        embed_dim: int,
        k: int | Sequence[int] = (1, 5, 10),
        group: str | None = None,
        samples: int | None = None,
        every_n_steps: int | None = None,
        prepare: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if set(encoders) != set(SIDES):
            raise InputError(f"encoders must name the sides a and b, got {', '.join(sorted(encoders)) or 'none'}")
        super().__init__(
            encoders,
            {"source": source},
            group,
            embed_dim,
            samples=samples,
            every_n_steps=every_n_steps,
            prepare=prepare,
        )
        self.ks = [k] if isinstance(k, int) else sorted(k)
        if not self.ks or self.ks[0] < 1:
            raise InputError(f"k={k} is not 1 or more")

    def measure(self, embedded: Mapping[str, Embedded], model: Model) -> Scores:
        """``A_to_B_recall@K`` both ways, named by what the encoders take, or by the encoders where they take the same.

        Of one encoder that takes both sides one number stands for both ways: their mean.
        """
        found, encoders = embedded["source"], self.sides("source")
        names = {side: encoder.modality for side, encoder in model.sides(encoders).items()}
        if names["a"] == names["b"] and encoders["a"] != encoders["b"]:
            names = encoders
        groups = found.labels if self.label else None
        scores: Scores = {}
        for one, other in (SIDES, SIDES[::-1]):
            for k, (value, chance) in recall(found.rows[one], found.rows[other], groups, self.ks).items():
                name = f"{names[one]}_to_{names[other]}_recall@{k}"
                first = scores[name]["value"] if name in scores else value
                scores[name] = {"value": (first + value) / 2, "chance": chance}
        return scores
