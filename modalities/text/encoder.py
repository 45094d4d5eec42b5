"""The text encoder: token ids -> features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.encoder import Encoded, Encoder
from modalities.initialisation import POSITION_STD, spreads
from modalities.text.lookup import TokenEmbedding
from modalities.transformer import initialise, trunk_of

POSITIONS = ("rotary", "learned")


class TextEncoder(Encoder):
    """Token embeddings and the transformer trunk; BERT, ModernBERT and GPT-2 are settings of it (``conf/encoder``).

    Args:
        vocab_size: V; at least the tokenizer's size.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        causal: for causal-LM; a position sees earlier ones only.
        positions: ``rotary``, or ``learned`` for at most ``max_tokens`` positions.
        max_tokens: longest sequence with learned positions.
        pool: see :class:`modalities.encoder.Encoder`.
        token_types: kinds of tokens with an embedding each, as BERT's two (all rows are of kind 0 unless the inputs
            say otherwise); with 0 there is none, which for one text a sequence can express the same.
        trunk: further settings of the trunk, by the names of :class:`modalities.transformer.Transformer`.
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
        token_types: int = 0,
        trunk: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(width, pool)
        if positions not in POSITIONS:
            raise InputError(f"positions '{positions}' is unknown; {choices(positions, POSITIONS)}")
        if token_types < 0:
            raise InputError(f"token_types={token_types} must be 0 or more")
        self.vocab_size = vocab_size
        self.causal = causal
        self.token_embedding = TokenEmbedding(vocab_size, width)
        self.position_embedding = nn.Embedding(max_tokens, width) if positions == "learned" else None
        self.type_embedding = nn.Embedding(token_types, width) if token_types else None
        self.trunk = trunk_of(
            trunk,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            norm=norm,
            causal=causal,
            rotary=positions == "rotary",
        )
        recipe = (trunk or {}).get("initialisation", "gpt2")
        cut = spreads(recipe, width, depth).cut
        for embedding in (self.token_embedding, self.position_embedding, self.type_embedding):
            if embedding is not None:
                initialise(embedding, cut=cut)
        if self.position_embedding is not None and recipe in POSITION_STD:
            initialise(self.position_embedding, POSITION_STD[recipe], cut)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest sequence it takes; None: any."""
        return None if self.position_embedding is None else self.position_embedding.num_embeddings

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"tokens": (T,) int64, "layout": Layout}``, with ``"types": (T,)`` or without -> (T, D)."""
        layout = inputs["layout"]
        x = self.token_embedding(inputs["tokens"])
        if self.position_embedding is not None:
            longest = max(layout.lengths)
            if longest > self.position_embedding.num_embeddings:
                raise InputError(
                    f"a text of {longest} tokens exceeds max_tokens={self.position_embedding.num_embeddings}"
                )
            x = x + self.position_embedding(layout.position)
        if self.type_embedding is not None:
            x = x + (self.type_embedding(inputs["types"]) if "types" in inputs else self.type_embedding.weight[0])
        return Encoded(self.trunk(x, layout), layout)


def output_matrix(encoder: Encoder) -> Tensor:
    """(V, D): the token embedding, which also predicts tokens (Press & Wolf 2017)."""
    assert isinstance(encoder.token_embedding, nn.Embedding)  # ``unfit`` has refused others
    return encoder.token_embedding.weight


def unfit(encoder: Encoder, sizes: dict[str, int]) -> str | None:
    """Why ``encoder`` does not fit an objective made for ``sizes`` (attribute -> value), None if it does."""
    if not isinstance(getattr(encoder, "token_embedding", None), nn.Embedding):
        return f"{type(encoder).__name__} has no token_embedding, which the objective predicts tokens by"
    for name, size in sizes.items():
        if getattr(encoder, name, size) != size:
            return f"the objective has {name}={size}, its text encoder {name}={getattr(encoder, name)}"
    return None
