"""Masked language modelling (Devlin et al. 2019, section 3.1). M masked positions, V vocabulary entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError, choices
from data.sample import Sample
from modalities.initialisation import initialise, spreads
from modalities.norms import norm_of
from modalities.objective import Encoders, Objective, Step, Sums
from modalities.prepare import Batch, Item
from modalities.text.encoder import output_matrix, unfit
from modalities.text.masks import Masking
from modalities.text.prepare import TextPrepare
from modalities.text.scores import token_chance, token_scores, token_summary
from modalities.text.tokenizer import MASK
from modalities.text.words import WordBegins

HEADS = ("bert", "modernbert", "none")


class MaskedText(TextPrepare):
    """Tokens of which ``mlm_probability`` are chosen; of those 80 % become [MASK], 10 % a random token, 10 % stay.

    At least one token is chosen, never [CLS] or [SEP]. The choice is the sample's own (its position's generator), so
    it is another one in each epoch and the same one on any number of devices.

    Args:
        mlm_probability: share of the tokens that are chosen.
        masking, replace, span_p, span_max: tokens, whole words or spans of words, and what becomes of them; see
            :class:`modalities.text.masks.Masking`. ``replace=[1, 0]`` is the plain mask.
        tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes: see :class:`TextPrepare`.
    """

    plain: ClassVar[type] = TextPrepare

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
        masking: str = "token",
        replace: Sequence[float] = (0.8, 0.1),
        span_p: float = 0.2,
        span_max: int = 10,
    ) -> None:
        super().__init__(tokenizer, max_tokens, member, field, min_tokens, max_chars, too_long, max_bytes)
        self.masking = Masking(masking, mlm_probability, replace, span_p, span_max)
        self.begins = None if masking == "token" else WordBegins(self.tokenizer.pieces(), *self.tokenizer.model())
        self.mask = self.tokenizer.number(MASK)
        self.vocab_size = self.tokenizer.size

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"tokens": (n,), "masked": (m,) places in the sequence, "labels": (m,) original ids}``, int64."""
        tokens = self.tokens(sample, rng, training)
        inner = tokens[1:-1]
        begins = self.begins(inner) if self.begins is not None else None
        chosen, fates = self.masking.choose(begins, len(inner), rng)
        masked = 1 + chosen
        labels = tokens[masked]
        tokens[masked] = self.masking.replace(labels, fates, self.mask, self.vocab_size, rng)
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
        head: what stands before the output matrix: ``bert`` (dense layer, GELU, LayerNorm), ``modernbert`` (the same
            without biases) or ``none``.
        norm_eps: of the head's norm (BERT: 1e-12).
        bias: whether the output has one.
        initialisation: of the head, by the recipe of its trunk (``modalities.initialisation``): it begins as a block's
            last layer does, which in ModernBERT is the smaller the deeper the trunk is.
        depth: blocks of the text encoder, where the recipe asks for it.
    """

    sides: ClassVar[dict[str, str]] = {"text": "text"}

    def __init__(
        self,
        width: int,
        vocab_size: int,
        head: str = "bert",
        norm_eps: float = 1e-5,
        bias: bool = True,
        initialisation: str = "bert",
        depth: int = 1,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise InputError(f"head '{head}' is unknown; {choices(head, HEADS)}")
        self.width, self.vocab_size = width, vocab_size
        biased = head == "bert"
        self.dense = nn.Linear(width, width, bias=biased) if head != "none" else None
        self.norm = norm_of("layer", width, norm_eps, biased) if head != "none" else None
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        begins = spreads(initialisation, width, depth)
        if self.dense is not None:
            initialise(self.dense, begins.mlp_out, begins.cut)

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        if getattr(encoders["text"], "causal", False):
            return "masked-LM needs a text encoder that sees both sides of a mask (causal: false)"
        return unfit(encoders["text"], {"width": self.width, "vocab_size": self.vocab_size})

    def count(self, batch: Batch) -> int:
        """M."""
        return len(batch["text"]["labels"])

    def transform(self, hidden: Tensor) -> Tensor:
        """(M, D) -> (M, D): the head."""
        if self.dense is None or self.norm is None:
            return hidden
        return self.norm(F.gelu(self.dense(hidden)))

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """Cross-entropy summed over the masked positions."""
        inputs, encoder = batch["text"], encoders["text"]
        hidden = self.transform(encoder(inputs).tokens[inputs["masked"]])
        return token_scores(hidden, output_matrix(encoder), self.bias, inputs["labels"], held_out=not self.training)

    @torch.no_grad()
    def beliefs(self, encoders: Encoders, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the model thinks of the labels: (M,) log of their probabilities, (M,) int64 places among V, from 1.

        A tie counts as being behind; so does whatever is not a number.
        """
        inputs, encoder = batch["text"], encoders["text"]
        hidden = self.transform(encoder(inputs).tokens[inputs["masked"]])
        logits = F.linear(hidden, output_matrix(encoder), self.bias).float()
        label = logits.gather(1, inputs["labels"][:, None])
        return logits.log_softmax(-1).gather(1, inputs["labels"][:, None])[:, 0], (~(logits < label)).sum(1)

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """``loss`` (nats a masked token), ``masked_accuracy``, ``perplexity``."""
        return token_summary(sums, "masked_accuracy")

    def chance(self, sums: Sums) -> dict[str, float]:
        """Knowing only how frequent each token is."""
        return token_chance(sums, "masked_accuracy")
