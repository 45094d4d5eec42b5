"""Views of a text: the same words, some left out (CLEAR, Wu et al. 2020, section 3.3). n tokens."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from data.errors import InputError
from data.sample import Sample
from modalities.text.prepare import TextPrepare


class TextView(TextPrepare):
    """Tokens of which each is left out with a chance of ``drop``; at least one stays.

    Args:
        drop: share of the tokens that are left out of a training text; of held-out ones none.
        tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes: see :class:`TextPrepare`.
    """

    plain: ClassVar[type] = TextPrepare

    def __init__(
        self,
        tokenizer: str,
        max_tokens: int,
        drop: float = 0.2,
        member: str = "txt",
        field: str | None = None,
        min_tokens: int = 3,
        max_chars: int = 1_000_000,
        too_long: str = "crop",
        max_bytes: int = 64_000_000,
    ) -> None:
        super().__init__(tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes)
        if not 0 <= drop < 1:
            raise InputError(f"drop={drop} is not a share: 0 <= drop < 1")
        self.drop = drop

    def tokens(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) int64 token ids of what is left, special tokens included."""
        tokens = super().tokens(sample, rng, training)
        return self.thinned(tokens, rng) if training else tokens

    def thinned(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n,) -> what is left of them; the first and the last stay."""
        if not self.drop:
            return tokens
        chances = rng.random(len(tokens) - 2)
        kept = chances >= min(self.drop, chances.max())
        return np.concatenate((tokens[:1], tokens[1:-1][kept], tokens[-1:]))
