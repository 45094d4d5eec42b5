"""Masked language modelling (Devlin et al. 2019, section 3.1). M masked positions, V vocabulary entries."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.sample import Sample
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item
from modalities.text.encoder import tied_logits, unfit
from modalities.text.prepare import TextPrepare
from modalities.text.scores import token_chance, token_scores, token_summary
from modalities.text.tokenizer import MASK
from modalities.transformer import initialise


class MaskedText(TextPrepare):
    """Tokens of which ``mlm_probability`` are chosen; of those 80 % become [MASK], 10 % a random token, 10 % stay.

    At least one token is chosen, never [CLS] or [SEP]. The choice is the sample's own (its position's generator), so
    it is another one in each epoch and the same one on any number of devices.

    Args:
        mlm_probability: share of the tokens that are chosen.
        tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes: see :class:`TextPrepare`.
    """

    def __init__(
        self,
        tokenizer: str,
        max_tokens: int,
        mlm_probability: float = 0.15,
        member: str = "txt",
        field: str | None = None,
        min_tokens: int = 3,
        max_chars: int = 1_000_000,
        too_long: str = "crop",
        max_bytes: int = 64_000_000,
    ) -> None:
        super().__init__(tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes)
        if not 0 < mlm_probability < 1:
            raise InputError(f"mlm_probability={mlm_probability} is not between 0 and 1")
        self.mlm_probability = mlm_probability
        self.mask = self.tokenizer.number(MASK)
        self.vocab_size = self.tokenizer.size

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,), "masked": (m,) places in the sequence, "labels": (m,) original ids}``, int64."""
        tokens = self.tokens(sample, rng, training)
        inner = len(tokens) - 2
        masked = 1 + np.flatnonzero(rng.random(inner) < self.mlm_probability)
        if masked.size == 0:
            masked = 1 + rng.integers(inner, size=1)
        labels = tokens[masked]
        fate = rng.random(masked.size)
        replaced = np.where(fate < 0.8, self.mask, labels)
        replaced = np.where(fate >= 0.9, rng.integers(self.vocab_size, size=masked.size), replaced)
        tokens[masked] = replaced
        return {"tokens": tokens, "masked": masked, "labels": labels}

    def collate(self, items: list[Item]) -> Batch:
        """Adds ``masked`` (M,) rows of the flat run and ``labels`` (M,)."""
        batch = super().collate(items)
        begins = np.concatenate(([0], np.cumsum(batch["layout"].lengths)[:-1]))
        masked = np.concatenate([begin + item["masked"] for begin, item in zip(begins, items, strict=True)])
        labels = np.concatenate([item["labels"] for item in items])
        return {
            "text": batch | {"masked": torch.from_numpy(masked), "labels": torch.from_numpy(labels)},
            "size": len(items),
        }


class MaskedLM(Objective):
    """Cross-entropy at the masked positions; only they go through the head and the vocabulary projection.

    Args:
        width: D of the text encoder.
        vocab_size: V of the text encoder, whose token embedding is the output matrix.
    """

    sides: ClassVar[dict[str, str]] = {"text": "text"}

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.apply(initialise)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        return unfit(encoders["text"], {"width": self.dense.in_features, "vocab_size": len(self.bias)})

    def count(self, batch: Batch) -> int:
        """M."""
        return len(batch["text"]["labels"])

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Cross-entropy summed over the masked positions."""
        inputs, encoder = batch["text"], encoders["text"]
        hidden = encoder(inputs).tokens[inputs["masked"]]
        hidden = self.norm(F.gelu(self.dense(hidden)))
        logits = tied_logits(hidden, encoder) + self.bias  # type: ignore[arg-type]
        return token_scores(logits, inputs["labels"], held_out=not self.training)

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats a masked token), ``masked_accuracy``, ``perplexity``."""
        return token_summary(sums, "masked_accuracy")

    def chance(self, sums: Sums) -> dict[str, float]:
        """Knowing only how frequent each token is."""
        return token_chance(sums, "masked_accuracy")
