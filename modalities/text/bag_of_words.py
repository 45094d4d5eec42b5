"""Bag-of-words prediction (Ma et al. 2024, "Drop your Decoder"): a text's one vector says which tokens it has.

N texts, W distinct tokens of each of them together, V vocabulary entries, D features.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from data.sample import Sample
from modalities.initialisation import initialise
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item, lengths_of
from modalities.text.encoder import unfit
from modalities.text.prepare import TextPrepare
from modalities.text.views import TextView


class TextAndWords(TextView):
    """A text without some of its tokens, and which tokens it has.

    Held-out texts lack some, too: what is all there is hardly a question.

    Args:
        drop: share of the tokens that are left out.
        tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes: see
            :class:`modalities.text.prepare.TextPrepare`.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,), "words": (w,) the distinct ones of the whole text, without [CLS] and [SEP]}``, int64."""
        tokens = TextPrepare.tokens(self, sample, rng, training)
        return {"tokens": self.thinned(tokens, rng), "words": np.unique(tokens[1:-1])}

    def collate(self, items: list[Item]) -> Batch:
        """Adds (W,) ``words``, ``texts`` (which of the N texts each is of) and ``shares`` (each word's share of it)."""
        counts = np.array(lengths_of(items, "words"))
        more = {
            "words": np.concatenate([item["words"] for item in items]),
            "texts": np.repeat(np.arange(len(items)), counts),
            "shares": np.repeat((1 / counts).astype(np.float32), counts),
        }
        tensors = {name: torch.from_numpy(array) for name, array in more.items()}
        return {"text": super().collate(items) | tensors, "size": len(items)}


class BagOfWords(Objective):
    """Cross-entropy between the distinct tokens of a text, all alike, and what its pooled vector makes of them.

    The output is one linear layer: what is to be told of a text has to be in its vector as it is. Each text counts the
    same, however long it is.

    Args:
        width: D of the text encoder.
        vocab_size: V of the text encoder.
    """

    sides: ClassVar[dict[str, str]] = {"text": "text"}

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.width, self.vocab_size = width, vocab_size
        self.output = nn.Linear(width, vocab_size)
        initialise(self.output)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        return unfit(encoders["text"], {"width": self.width, "vocab_size": self.vocab_size})

    def count(self, batch: Batch) -> int:
        """N."""
        return len(batch["text"]["layout"])

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Cross-entropy summed over the texts; computed in float32, also under autocast."""
        inputs = batch["text"]
        words, texts, shares = inputs["words"], inputs["texts"], inputs["shares"]
        logits = self.output(encoders["text"].pooled(inputs)).float()
        loss = -(logits.log_softmax(1)[texts, words] * shares).sum()
        sums = {"hits": (logits.detach().argmax(1)[texts] == words).sum().double()}
        if not self.training:
            none = shares.new_zeros(self.vocab_size, dtype=torch.float64)
            sums["shares"] = none.index_add(0, words, shares.double())
            sums["texts"] = none.index_add(0, words, torch.ones_like(shares, dtype=torch.float64))
        return loss, sums

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats), ``hit@1``: how often the most likely token is one of the text's."""
        return {"loss": sums["loss"] / sums["count"], "hit@1": sums["hits"] / sums["count"]}

    def chance(self, sums: Sums) -> dict[str, float]:
        """Knowing only how frequent each token is."""
        share = sums["shares"] / sums["shares"].sum()
        known = share[share > 0]
        return {"loss": float(-(known * known.log()).sum()), "hit@1": float(sums["texts"].max() / sums["count"])}
