"""Text -> token ids, without padding: sequences of a batch lie end to end."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.layout import Layout
from modalities.prepare import Batch, Item, lengths_of, text_of
from modalities.text.tokenizer import END, START, TextTokenizer


class TextPrepare:
    """[CLS] text [SEP], cropped to ``max_tokens``.

    A longer text gives a window at a random place in training, its beginning on held-out data.

    Args:
        tokenizer: path of a ``tokenizer.json``.
        max_tokens: longest sequence, special tokens included.
        member: extension of the member that holds the text.
    """

    modality: ClassVar[str] = "text"

    def __init__(self, tokenizer: str, max_tokens: int, member: str = "txt") -> None:
        if max_tokens < 3:
            raise InputError(f"max_tokens={max_tokens} leaves no room between [CLS] and [SEP]; use at least 3")
        self.tokenizer = TextTokenizer(tokenizer)
        self.max_tokens = max_tokens
        self.member = member
        self.start, self.end = self.tokenizer.number(START), self.tokenizer.number(END)

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A text member."""
        return {"text": (self.member,)}

    def tokens(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) int64 token ids of one sample, special tokens included."""
        _, raw = sample.first((self.member,), "text")
        ids = self.tokenizer.encode(text_of(raw, f"member {self.member}"))
        if not ids:
            raise SampleError("text has no tokens")
        room = self.max_tokens - 2
        if len(ids) > room:
            begin = int(rng.integers(len(ids) - room + 1)) if training else 0
            ids = ids[begin : begin + room]
        return np.array([self.start, *ids, self.end], dtype=np.int64)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,) int64}``."""
        return {"tokens": self.tokens(sample, rng, training)}

    def collate(self, items: list[Item]) -> Batch:
        """``{"tokens": (T,) int64, "layout": Layout, "size": B}``."""
        return {
            "tokens": torch.from_numpy(np.concatenate([item["tokens"] for item in items])),
            "layout": Layout(lengths_of(items, "tokens")),
            "size": len(items),
        }
