"""Rotary positions (Su et al. 2021, section 3.4): pairs of features turn by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from data.errors import InputError
from modalities.layout import Layout


class Rotary:
    """The frequencies of the turns.

    Args:
        features: E, features a head; even.
        base: wavelengths grow from 2 pi to 2 pi * ``base`` positions.
    """

    def __init__(self, features: int, base: float = 10000.0) -> None:
        if features % 2:
            raise InputError(f"rotary positions need an even number of features a head, got {features}")
        if base <= 1:
            raise InputError(f"rotary base {base} must be more than 1")
        self.frequencies = base ** (-torch.arange(0, features, 2, dtype=torch.float32, device="cpu") / features)
        self._there: dict[torch.device, Tensor] = {}  # on devices, which a copy would be waited for in each forward

    def angles(self, layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (T, 1, E / 2), for the rows of ``layout``; made once a forward, used by every block."""
        turn = (layout.position.to(torch.float32)[:, None] * self._frequencies(device)).unsqueeze(1)
        return turn.cos(), turn.sin()

    def _frequencies(self, device: torch.device) -> Tensor:
        if device.type == "cpu":
            return self.frequencies
        if device not in self._there:
            self._there[device] = self.frequencies.to(device)
        return self._there[device]


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turns feature i with feature i + E / 2 of (T, ..., H, E) by :meth:`Rotary.angles`."""
    cos, sin = (a.to(x.dtype).view(a.shape[0], *(1,) * (x.dim() - 2), a.shape[-1]) for a in angles)
    return _Rotate.apply(x, cos, sin)


def turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """:func:`rotate` without gradient into ``out``, which may be ``x``; the angles are shaped to fit (..., E / 2)."""
    left, right = x.chunk(2, -1)
    new_left = (left * cos).addcmul_(right, sin, value=-1)
    new_right = (right * cos).addcmul_(left, sin)
    half = x.shape[-1] // 2
    out[..., :half] = new_left
    out[..., half:] = new_right
    return out


class _Rotate(torch.autograd.Function):
    """Keeps the angles alone: the gradient of a turn is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return turn(x, cos, sin, torch.empty(x.shape, dtype=x.dtype, device=x.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return turn(grad, cos, -sin, torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)), None, None
