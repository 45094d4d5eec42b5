"""The tanh approximation of GELU, on CPU at the pace of memory."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from modalities.first_order import first_order

_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715
_FEWEST = 1 << 14
"""Numbers below which the one operator of torch is quicker than several."""
_PIECE = 192 << 10
"""Bytes of a piece for each thread: the pieces at hand stay in a second-level cache."""


def tanh_gelu(x: Tensor) -> Tensor:
    """``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`` (Hendrycks & Gimpel 2016, section 2), of any shape.

    Torch's operator takes a slow tanh of each number forward and another one backward, which on CPU is three times the
    exact GELU. There, it is made piece by piece here, by torch's fast tanh and together with its derivative, which is
    kept in place of ``x``: the way back is one product. The bits of a number do not depend on where it stands, in
    tensors of 16,384 numbers and more. Beyond 2e13 the derivative is NaN; there is no second one.
    """
    if type(x) is not Tensor or _seen_through() or not _suits(x):
        return F.gelu(x, approximate="tanh")
    return _TanhGelu.apply(x)


def _seen_through() -> bool:
    """Whether the operator that others know is wanted: a graph is traced, or derivatives are taken in another way."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return traced or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _suits(x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.layout == torch.strided and not x.is_nested
    return plain and x.dtype in (torch.float32, torch.float64) and x.numel() >= _FEWEST


class _TanhGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        wanted = ctx.needs_input_grad[0]
        y, slope = torch.empty_like(x), torch.empty_like(x) if wanted else None
        _fill(x.view(-1), y.view(-1), None if slope is None else slope.view(-1))
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return grad * slope


def _fill(x: Tensor, y: Tensor, slope: Tensor | None) -> None:
    """Writes the value at each of (N,) numbers to ``y`` and the derivative to ``slope``, if wanted."""
    size = min(len(x), _PIECE // x.itemsize * torch.get_num_threads())
    slopes, halves = x.new_full((size,), _SLOPE), x.new_full((size,), 0.5)
    inner, tanh, gate = (torch.empty_like(slopes) for _ in range(3))
    for begin in range(0, len(x), size):
        own = slice(begin, min(begin + size, len(x)))
        a = x[own]
        if len(a) < size:
            slopes, halves, inner, tanh, gate = (buffer[: len(a)] for buffer in (slopes, halves, inner, tanh, gate))
        torch.addcmul(slopes, a, a, value=_SLOPE * _CUBIC, out=inner).mul_(a)
        torch.tanh(inner, out=tanh)
        torch.add(halves, tanh, alpha=0.5, out=gate)
        torch.mul(a, gate, out=y[own])
        if slope is not None:
            # gate + 0.5 a (1 - t^2) u', where a u' = 3 u - 2 _SLOPE a
            inner.sub_(a, alpha=_SLOPE * 2 / 3)
            torch.ops.aten.tanh_backward.grad_input(inner, tanh, grad_input=inner)
            torch.add(gate, inner, alpha=1.5, out=slope[own])
