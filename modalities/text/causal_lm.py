"""Causal language modelling: each token predicts the next one of its own document."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from data.errors import SampleError
from data.sample import Sample
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item
from modalities.text.encoder import output_matrix, unfit
from modalities.text.prepare import TextPrepare
from modalities.text.scores import token_chance, token_scores, token_summary


class UncutText(TextPrepare):
    """A window of a longer text says so: its special tokens stand where the text itself begins and ends, nowhere else.

    Else a model learned that texts end where ``max_tokens`` cut them.
    """

    def _cropped(self, ids: list[int], begins: bool, ends: bool, rng: np.random.Generator, training: bool) -> list[int]:
        whole = [self.start] * begins + ids + [self.end] * ends
        if len(whole) < self.min_tokens:  # a part of a text cut at max_chars has neither
            reason = f"window of {len(whole)} tokens is shorter than min_tokens={self.min_tokens}"
            raise SampleError(reason, "too_short", self.source.member)
        window = self._window(len(whole), self.max_tokens, "tokens", "max_tokens", self.max_tokens, rng, training)
        return whole[window]


class OpenText(UncutText):
    """Tokens without the one that ends a text, which a causal encoder is never given: it is only ever predicted."""

    @property
    def longest(self) -> int:
        """One less than ``max_tokens``."""
        return self.max_tokens - 1

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n - 1,) int64}``."""
        return {"tokens": self.tokens(sample, rng, training)[:-1]}


class CausalText(OpenText):
    """Tokens and, for each but the last, its successor. Documents are packed; none sees another."""

    plain: ClassVar[type] = OpenText

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n - 1,), "labels": (n - 1,)}``, int64."""
        tokens = self.tokens(sample, rng, training)
        return {"tokens": tokens[:-1], "labels": tokens[1:]}

    def collate(self, items: list[Item]) -> Batch:
        """Adds ``labels`` (T,)."""
        labels = torch.from_numpy(np.concatenate([item["labels"] for item in items]))
        return {"text": super().collate(items) | {"labels": labels}, "size": len(items)}


class CausalLM(Objective):
    """Cross-entropy of the next token, by the tied token embedding. The text encoder must be causal.

    Args:
        vocab_size: V of the text encoder.
        bias: whether the output has one (GPT-2 has none).
    """

    sides: ClassVar[dict[str, str]] = {"text": "text"}

    def __init__(self, vocab_size: int, bias: bool = True) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.bias = torch.nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        if not getattr(encoders["text"], "causal", False):
            return "causal-LM needs a causal text encoder (causal: true); this one sees the tokens it should predict"
        return unfit(encoders["text"], {"vocab_size": self.vocab_size})

    def count(self, batch: Batch) -> int:
        """T."""
        return len(batch["text"]["labels"])

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Cross-entropy summed over all tokens."""
        inputs, encoder = batch["text"], encoders["text"]
        hidden = encoder(inputs).tokens
        return token_scores(hidden, output_matrix(encoder), self.bias, inputs["labels"], held_out=not self.training)

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats a token), ``next_token_accuracy``, ``perplexity``."""
        return token_summary(sums, "next_token_accuracy")

    def chance(self, sums: Sums) -> dict[str, float]:
        """Knowing only how frequent each token is."""
        return token_chance(sums, "next_token_accuracy")
