"""Text -> token ids, without padding: sequences of a batch lie end to end."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from data.errors import InputError, SampleError, choices
from data.sample import Sample
from modalities.layout import Layout
from modalities.prepare import Batch, Item, lengths_of
from modalities.text.member import TextMember
from modalities.text.tokenizer import END, START, TextTokenizer
from modalities.view import View, shortened


class TextPrepare:
    """[CLS] text [SEP] (or what the tokenizer has in their place), cropped to ``max_tokens``.

    A longer text gives a window at a random place in training, its beginning on held-out data.

    Args:
        tokenizer: path of a ``tokenizer.json``.
        max_tokens: longest sequence, special tokens included.
        member: extension of the member that holds the text.
        field: where in a JSON or JSON-lines member; see :class:`modalities.text.member.TextMember`.
        min_tokens: shorter sequences are refused, special tokens included.
        max_chars: of a longer text only a window of so many characters is tokenized.
        too_long: ``crop``, or ``refuse`` texts of more than ``max_tokens`` or ``max_chars``.
        max_bytes: larger members are refused before they are decoded.
    """

    modality: ClassVar[str] = "text"

    def __init__(
        self,
        tokenizer: str,
        max_tokens: int,
        member: str = "txt",
        field: str | None = None,
        min_tokens: int = 3,
        max_chars: int = 1_000_000,
        too_long: str = "crop",
        max_bytes: int = 64_000_000,
    ) -> None:
        if max_tokens < 3:
            raise InputError(f"max_tokens={max_tokens} leaves no room between [CLS] and [SEP]; use at least 3")
        if not 3 <= min_tokens <= max_tokens:
            raise InputError(f"min_tokens={min_tokens} is not between 3 and max_tokens={max_tokens}")
        if too_long not in ("crop", "refuse"):
            raise InputError(f"too_long '{too_long}' is not there; {choices(too_long, ('crop', 'refuse'))}")
        if max_chars < 1:
            raise InputError(f"max_chars={max_chars} is not 1 or more")
        self.source = TextMember(member, field, max_bytes)
        self.tokenizer = TextTokenizer(tokenizer)
        self.max_tokens, self.min_tokens = max_tokens, min_tokens
        self.max_chars, self.too_long = max_chars, too_long
        self.start, self.end = self.tokenizer.number(START), self.tokenizer.number(END)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that an encoder is given."""
        return self.max_tokens

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A text member."""
        return {"text": (self.source.member,)}

    def tokens(self, sample: Sample, rng: np.random.Generator, training: bool) -> np.ndarray:
        """(n,) int64 token ids of one sample, special tokens included."""
        text = self.source.read(sample, rng, training)
        part = self._window(len(text), self.max_chars, "characters", "max_chars", self.max_chars, rng, training)
        ids = self.tokenizer.encode(text[part])
        if not ids:
            raise SampleError("text has no tokens", "empty", self.source.member)
        if len(ids) + 2 < self.min_tokens:
            reason = f"text of {len(ids) + 2} tokens is shorter than min_tokens={self.min_tokens}"
            raise SampleError(reason, "too_short", self.source.member)
        return np.array(self._cropped(ids, part.start == 0, part.stop >= len(text), rng, training), dtype=np.int64)

    def _cropped(self, ids: list[int], begins: bool, ends: bool, rng: np.random.Generator, training: bool) -> list[int]:
        """``ids``, or a window of them, with the special tokens around it.

        Args:
            ids: of a text or a part of it.
            begins: whether they begin where the text does.
            ends: whether they end where it does.
            rng: the sample's own.
            training: whether a window may lie anywhere.
        """
        room = self.max_tokens - 2
        window = self._window(len(ids), room, "tokens", "max_tokens", self.max_tokens, rng, training)
        return [self.start, *ids[window], self.end]

    def _window(
        self, size: int, room: int, what: str, name: str, limit: int, rng: np.random.Generator, training: bool
    ) -> slice:
        """The ``room`` of ``size`` that are taken."""
        if size <= room:
            return slice(0, size)
        if self.too_long == "refuse":
            reason = f"text of {size + limit - room} {what} exceeds {name}={limit}"
            raise SampleError(reason, "too_long", self.source.member)
        begin = int(rng.integers(size - room + 1)) if training else 0
        return slice(begin, begin + room)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,) int64}``."""
        return {"tokens": self.tokens(sample, rng, training)}

    def view(self, item: Item) -> View:
        """The text, without special tokens."""
        ids = [number for number in item["tokens"].tolist() if number not in (self.start, self.end)]
        return {"text": shortened(self.tokenizer.decode(ids))}

    def collate(self, items: list[Item]) -> Batch:
        """``{"tokens": (T,) int64, "layout": Layout, "size": B}``."""
        return {
            "tokens": torch.from_numpy(np.concatenate([item["tokens"] for item in items])),
            "layout": Layout(lengths_of(items, "tokens")),
            "size": len(items),
        }
