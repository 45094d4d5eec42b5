"""Documents for masked-LM and causal-LM, and how they become batches on either side."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from modalities.layout import Layout
from modalities.text.causal_lm import CausalText
from modalities.text.masked_lm import MaskedText

SHARE, SIGMA = 0.15, 0.8
START, END, MASK = 2, 3, 4


def documents(size: dict[str, int], seed: int) -> list[np.ndarray]:
    """Token ids with a Zipf-like law and log-normal lengths, [CLS] ... [SEP], for 40 batches."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(40 * size["batch"])
    low, high = math.log(8), math.log(size["longest"] * 4)
    for _ in range(60):  # the mean after the cut is ``mean``
        middle = (low + high) / 2
        lengths = np.clip(np.exp(middle + SIGMA * z), 8, size["longest"])
        low, high = (middle, high) if lengths.mean() < size["mean"] else (low, middle)
    found = []
    for n in lengths.astype(int):
        ids = np.minimum(5 + rng.zipf(1.3, n) % (size["vocabulary"] - 5), size["vocabulary"] - 1)
        ids[0], ids[-1] = START, END
        found.append(ids.astype(np.int64))
    return found


def batches_of(size: dict[str, int], seed: int) -> Callable[[int], list[np.ndarray]]:
    """Number of a batch -> its documents."""
    docs, batch = documents(size, seed), size["batch"]

    def batches(number: int) -> list[np.ndarray]:
        begin = number * batch % len(docs)
        return docs[begin : begin + batch]

    return batches


class Tokenized:
    """Documents that are tokens already; they are prepared and collated as any."""

    def tokens(self, sample: Any, rng: np.random.Generator, training: bool) -> np.ndarray:
        return np.array(sample)


class Masked(Tokenized, MaskedText):
    """For masked-LM."""


class Shifted(Tokenized, CausalText):
    """For causal-LM."""


class Collate:
    """A batch of ours from documents, sequences end to end: masks drawn, or (``causal``) each token's successor."""

    def __init__(self, tokenizer: str, longest: int, causal: bool = False) -> None:
        self.prepare = Shifted(tokenizer, longest) if causal else Masked(tokenizer, longest, SHARE)

    def __call__(self, samples: list[np.ndarray], number: int) -> dict[str, Any]:
        seeds = np.random.default_rng(number).integers(2**63, size=len(samples))
        items = [self.prepare(tokens, np.random.default_rng(s), True) for s, tokens in zip(seeds, samples, strict=True)]  # type: ignore[arg-type]
        return self.prepare.collate(items)


def tokenizer_of(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(len(special), vocabulary))])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


def collate_by(tokenizer: Any, longest: int, causal: bool = False) -> Collate:
    """For the tokenizer of ``transformers``, which ours reads from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokenizer.json")
        tokenizer.backend_tokenizer.save(path)
        return Collate(path, longest, causal)


class Grouped:
    """The library's example for full blocks: documents one after another, cut each ``longest`` tokens."""

    def __init__(self, longest: int) -> None:
        self.longest, self.rest = longest, np.zeros(0, dtype=np.int64)

    def __call__(self, samples: list[np.ndarray]) -> list[np.ndarray]:
        flat = np.concatenate([self.rest, *samples])
        cut = len(flat) // self.longest * self.longest
        self.rest = flat[cut:]
        return list(flat[:cut].reshape(-1, self.longest))


class Collated:
    """Documents by a collator of ``transformers``, in full blocks of ``grouped`` tokens if that is not None."""

    def __init__(self, collator: Any, grouped: int | None) -> None:
        self.collator, self.group = collator, None if grouped is None else Grouped(grouped)

    def __call__(self, samples: list[np.ndarray]) -> dict[str, Any]:
        if self.group is not None:
            samples = self.group(samples)
        return dict(self.collator([{"input_ids": ids.tolist()} for ids in samples]))


def flat(given: dict[str, Tensor]) -> dict[str, Any]:
    """Our batch from what their collator made."""
    there = given["attention_mask"].bool()
    labels = given["labels"][there]
    masked = (labels != -100).nonzero().flatten()
    text = {
        "tokens": given["input_ids"][there],
        "layout": Layout(there.sum(1).tolist()),
        "masked": masked,
        "labels": labels[masked],
    }
    return {"text": text, "size": len(there)}
