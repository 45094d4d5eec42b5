"""The text encoder: token ids -> features."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from data.errors import InputError
from modalities.encoder import Encoded, Encoder
from modalities.transformer import Transformer, initialise

POSITIONS = ("rotary", "learned")


class TextEncoder(Encoder):
    """Token embeddings and the transformer trunk.

    Args:
        vocab_size: V; at least the tokenizer's size.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        causal: for causal-LM; a position sees earlier ones only.
        positions: ``rotary``, or ``learned`` for at most ``max_tokens`` positions.
        max_tokens: longest sequence with learned positions.
        pool: see :class:`modalities.encoder.Encoder`.
    """

    modality: ClassVar[str] = "text"

    def __init__(
        self,
        vocab_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: str = "pre",
        causal: bool = False,
        positions: str = "rotary",
        max_tokens: int = 512,
        pool: str = "mean",
    ) -> None:
        super().__init__(width, pool)
        if positions not in POSITIONS:
            raise InputError(f"positions '{positions}' is unknown; choices: {', '.join(POSITIONS)}")
        self.vocab_size = vocab_size
        self.causal = causal
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.position_embedding = nn.Embedding(max_tokens, width) if positions == "learned" else None
        self.trunk = Transformer(width, depth, heads, mlp_ratio, dropout, norm, causal, positions == "rotary")
        for embedding in (self.token_embedding, self.position_embedding):
            if embedding is not None:
                initialise(embedding)

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"tokens": (T,) int64, "layout": Layout}`` -> (T, D)."""
        layout = inputs["layout"]
        x = self.token_embedding(inputs["tokens"])
        if self.position_embedding is not None:
            longest = max(layout.lengths)
            if longest > self.position_embedding.num_embeddings:
                raise InputError(
                    f"a text of {longest} tokens exceeds max_tokens={self.position_embedding.num_embeddings}"
                )
            x = x + self.position_embedding(layout.position)
        return Encoded(self.trunk(x, layout), layout)


def tied_logits(hidden: torch.Tensor, encoder: TextEncoder) -> torch.Tensor:
    """(M, D) -> (M, V): logits by the token embedding itself (Press & Wolf 2017)."""
    return nn.functional.linear(hidden, encoder.token_embedding.weight)


def unfit(encoder: Encoder, sizes: dict[str, int]) -> str | None:
    """Why ``encoder`` does not fit an objective made for ``sizes`` (attribute -> value), None if it does."""
    if not hasattr(encoder, "token_embedding"):
        return f"{type(encoder).__name__} has no token_embedding, which the objective predicts tokens by"
    for name, size in sizes.items():
        if getattr(encoder, name, size) != size:
            return f"the objective has {name}={size}, its text encoder {name}={getattr(encoder, name)}"
    return None
