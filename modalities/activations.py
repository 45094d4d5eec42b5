"""What stands between the two layers of a perceptron, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from data.errors import InputError, choices
from modalities.tanh_gelu import tanh_gelu


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)`` (Hendrycks & Gimpel 2016, section 2), as the first CLIP models have it."""
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh_gelu": tanh_gelu,
}

GATED: dict[str, Callable[[Tensor], Tensor]] = {"geglu": F.gelu, "swiglu": F.silu}
"""Shazeer 2020: the first half of the features, activated, times the second half."""


def activation_of(name: str) -> tuple[Callable[[Tensor], Tensor], int]:
    """The function and how many times its output's features it takes: 2 if gated, else 1.

    Raises:
        InputError: unknown ``name``.
    """
    if name in GATED:
        inner = GATED[name]
        return partial(gate, inner), 2
    if name not in ACTIVATIONS:
        raise InputError(f"activation '{name}' is unknown; {choices(name, [*ACTIVATIONS, *GATED])}")
    return ACTIVATIONS[name], 1


def gate(inner: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(..., 2 D) -> (..., D)."""
    first, second = x.chunk(2, -1)
    return inner(first) * second
