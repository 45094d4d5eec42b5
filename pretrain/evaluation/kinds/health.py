"""Whether embeddings use the space they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from modalities.audio.quantizer import perplexity
from modalities.audio.wav2vec2 import Wav2Vec2
from pretrain.devices import moved
from pretrain.embedding.extract import OWN
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.kinds.evaluator import EmbeddingEvaluator
from pretrain.evaluation.metrics.health import alignment, effective_rank, uniformity
from pretrain.evaluation.scores import Scores
from pretrain.model import Model


class Health(EmbeddingEvaluator):
    """Effective rank and uniformity of one or two encoders; of two also how near the halves of a pair are.

    Of an encoder that a wav2vec 2.0 task trains also how many codes of its quantizer are in use, over all frames.

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
        """``ENCODER_effective_rank``, ``_uniformity`` and ``_code_perplexity``, and ``alignment``.

        Only the code perplexity has a value for guessing: that of a code book of which one code is used.
        """
        rows = embedded["source"].rows
        scores: Scores = {}
        for side, name in self.sides("source").items():
            scores[f"{name}_effective_rank"] = {"value": effective_rank(rows[side])}
            scores[f"{name}_uniformity"] = {"value": uniformity(rows[side])}
        if len(rows) == 2 and self.embed_dim is not None:
            scores["alignment"] = {"value": alignment(rows["a"], rows["b"])}
        return scores | self._codes(model)

    def _codes(self, model: Model) -> Scores:
        """Of each encoder that a wav2vec 2.0 task trains; the source is read again, as frames are not kept."""
        found: Scores = {}
        device = next(model.parameters()).device
        for side, name in self.sides("source").items():
            own = [task for task in model.tasks.values() if name in task.sides.values()]
            objective = next((task.objective for task in own if isinstance(task.objective, Wav2Vec2)), None)
            if objective is None:
                continue
            encoders = model.sides({"audio": name})
            batches = (moved(batch["sides"][side], device) for batch in self.features["source"].batches())
            codes = sum(objective.code_counts(encoders, inputs) for inputs in batches)
            assert isinstance(codes, torch.Tensor)
            value = float(perplexity(codes / codes[0].sum()))
            found[f"{name}_code_perplexity"] = {"value": value, "chance": float(objective.quantizer.groups)}
        return found
