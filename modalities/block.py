"""One block of the trunk."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modalities.activations import activation_of
from modalities.attention import attend
from modalities.norms import norm_of
from modalities.reach import Reach
from modalities.residual import ResidualLinear
from modalities.skip import skip

Angles = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each with a residual path; T rows, D features, H heads.

    Args:
        width, heads, head_width, hidden: D, H, E and the perceptron's inner width.
        norm: ``pre`` or ``post``.
        norm_kind, norm_eps, norm_bias: see :func:`modalities.norms.norm_of`.
        activation: see :func:`modalities.activations.activation_of`.
        attention_bias, mlp_bias: whether the linear layers have one.
        dropout, attention_dropout, mlp_dropout: on both residual branches, on attention weights, on the activation.
        first_norm: whether there is a norm before the attention (only without, where ``norm`` is ``pre``).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        hidden: int,
        norm: str,
        norm_kind: str,
        norm_eps: float,
        norm_bias: bool,
        activation: str,
        attention_bias: bool,
        mlp_bias: bool,
        dropout: float,
        attention_dropout: float,
        mlp_dropout: float,
        first_norm: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.norm = heads, norm
        self.dropout, self.attention_dropout, self.mlp_dropout = dropout, attention_dropout, mlp_dropout
        self.activation, times = activation_of(activation)
        self.attend = attend
        inner = heads * head_width
        self.attention_norm = norm_of(norm_kind, width, norm_eps, norm_bias) if first_norm else nn.Identity()
        self.attention_in = nn.Linear(width, 3 * inner, bias=attention_bias)
        self.attention_out = ResidualLinear(inner, width, bias=attention_bias)
        self.mlp_norm = norm_of(norm_kind, width, norm_eps, norm_bias)
        self.mlp_in = nn.Linear(width, times * hidden, bias=mlp_bias)
        self.mlp_out = ResidualLinear(hidden, width, bias=mlp_bias)

    def forward(self, x: Tensor, reach: Reach, angles: Angles | None, skipped: bool = False) -> Tensor:
        """(T, D) -> (T, D); ``skipped`` gives ``x`` back, see :func:`modalities.skip.skip`."""
        if skipped:
            return skip(x, self)
        if self.norm == "pre":
            x = self._attend(x, self.attention_norm(x), reach, angles)
            return self._mlp(x, self.mlp_norm(x))
        x = self.attention_norm(self._attend(x, x, reach, angles))
        return self.mlp_norm(self._mlp(x, x))

    def compile(self, *given: Any, **options: Any) -> None:
        """Compiles all but the attention: that knows lengths on the host, which would compile anew at every step."""
        self.attend = torch.compiler.disable(attend)
        super().compile(*given, **options)

    def _attend(self, bypass: Tensor, x: Tensor, reach: Reach, angles: Angles | None) -> Tensor:
        qkv = self.attention_in(x).unflatten(-1, (3, self.heads, -1))
        out = self.attend(qkv, angles, reach, self.attention_dropout if self.training else 0.0)
        return self._onto(bypass, self.attention_out, out.flatten(1))

    def _mlp(self, bypass: Tensor, x: Tensor) -> Tensor:
        inner = self.activation(self.mlp_in(x))
        if self.mlp_dropout:
            inner = F.dropout(inner, self.mlp_dropout, self.training)
        return self._onto(bypass, self.mlp_out, inner)

    def _onto(self, bypass: Tensor, layer: nn.Module, inner: Tensor) -> Tensor:
        if self.dropout and self.training:
            return bypass + F.dropout(layer(inner), self.dropout)
        return layer(inner, bypass)
