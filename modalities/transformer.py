"""The one transformer trunk; text, image and audio encoders are settings of it. T rows, D features, H heads."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.attention import Rotary, packed_attention, rotate
from modalities.layout import Layout

NORMS = ("pre", "post")
ACTIVATIONS: dict[str, Callable[..., Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each with a residual path."""

    def __init__(self, width: int, heads: int, hidden: int, norm: str, dropout: float, activation: str, bias: bool):
        super().__init__()
        self.heads, self.norm, self.dropout = heads, norm, dropout
        self.activation = ACTIVATIONS[activation]
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width, bias=bias)
        self.attention_out = nn.Linear(width, width, bias=bias)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden, bias=bias)
        self.mlp_out = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor, layout: Layout, angles: tuple[Tensor, Tensor] | None, causal: bool) -> Tensor:
        """(T, D) -> (T, D)."""
        if self.norm == "pre":
            x = x + self._drop(self._attend(self.attention_norm(x), layout, angles, causal))
            return x + self._drop(self._mlp(self.mlp_norm(x)))
        x = self.attention_norm(x + self._drop(self._attend(x, layout, angles, causal)))
        return self.mlp_norm(x + self._drop(self._mlp(x)))

    def _attend(self, x: Tensor, layout: Layout, angles: tuple[Tensor, Tensor] | None, causal: bool) -> Tensor:
        q, k, v = self.attention_in(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        out = packed_attention(q, k, v, layout, causal, self.dropout if self.training else 0.0)
        return self.attention_out(out.flatten(1))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.mlp_out(self.activation(self.mlp_in(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Transformer(nn.Module):
    """A stack of blocks over sequences laid end to end.

    Args:
        width: D.
        depth: number of blocks.
        heads: H; divides ``width``.
        mlp_ratio: hidden size of the perceptron as a multiple of ``width``.
        dropout: on attention weights and on both residual branches.
        norm: ``pre`` (GPT-2, ViT; a last norm follows the stack) or ``post`` (BERT).
        causal: a position attends to itself and earlier ones only.
        rotary: rotary positions in every block; otherwise the caller adds positions to the input.
        activation: ``gelu``, ``relu`` or ``silu``.
        bias: whether linear layers have one.

    Raises:
        InputError: an option has an unknown value, or ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: str = "pre",
        causal: bool = False,
        rotary: bool = True,
        activation: str = "gelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise InputError(f"norm '{norm}' is unknown; choices: {', '.join(NORMS)}")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation '{activation}' is unknown; choices: {', '.join(ACTIVATIONS)}")
        if min(width, depth, heads) < 1 or not 0 <= dropout < 1:
            raise InputError(
                f"width={width}, depth={depth}, heads={heads} must be 1 or more and 0 <= dropout={dropout} < 1"
            )
        if width % heads:
            raise InputError(f"heads={heads} does not divide width={width}")
        if rotary and width // heads % 2:
            raise InputError(f"rotary positions need an even width a head, got {width}/{heads}")
        hidden = round(width * mlp_ratio)
        self.causal = causal
        self.rotary = Rotary(width // heads) if rotary else None
        blocks = [Block(width, heads, hidden, norm, dropout, activation, bias) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.apply(initialise)
        # Residual branches add up over depth: GPT-2 (section 2.3) scales their last layer by 1/sqrt(branches).
        for block in blocks:
            for layer in (block.attention_out, block.mlp_out):
                nn.init.normal_(layer.weight, std=0.02 * (2 * depth) ** -0.5)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(T, D) -> (T, D)."""
        angles = self.rotary.angles(layout, x.device) if self.rotary is not None else None
        for block in self.blocks:
            x = block(x, layout, angles, self.causal)
        return self.norm(x)


def initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02), biases 0 (BERT, GPT-2)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
