"""The first convolution of the base model, whose channels are normed over each clip: B clips, C channels, k taps.

The first layer's output is the largest tensor of the model, and a norm over it would be read and written several times.
But mean and variance of a channel follow from those of the k taps it is a sum of, so the norm is folded into the
weights of the convolution, clip by clip: it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def normed_conv(
    taps: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, eps: float, valid: Sequence[int], rows: Sequence[int]
) -> Tensor:
    """A convolution and a norm of each channel over the clip's own rows (``torch.nn.GroupNorm`` with C groups).

    Args:
        taps: (T, k), what each row sees of the waveform.
        weight: (C, k) of the convolution, which needs no bias: the norm would take it away.
        gain: (C,), of the norm.
        bias: (C,), of the norm.
        eps: of the norm.
        valid: of each clip, how many of its rows lie inside it; statistics run over these.
        rows: of each clip, how many rows it has, the last of which straddle its end; T in sum.

    Returns:
        (T, C).
    """
    means, spreads = moments(taps, valid, rows)
    # A smooth sound has taps that are almost alike, and a channel that takes their differences loses all digits of
    # float32 in the variance below.
    wide = weight.double()
    mean = means @ wide.t()
    variance = torch.einsum("ck,bkj,cj->bc", wide, spreads, wide)
    scale = gain.double() * (variance + eps).rsqrt()
    folded = (wide.t() * scale.unsqueeze(1)).to(weight.dtype)
    shift = (bias.double() - mean * scale).to(weight.dtype)
    if torch.is_autocast_enabled(taps.device.type):
        # Autocast does not look into a function with its own backward.
        dtype = torch.get_autocast_dtype(taps.device.type)
        taps, folded, shift = taps.to(dtype), folded.to(dtype), shift.to(dtype)
    return _ByClip.apply(taps, folded, shift, list(rows))


@torch.no_grad()
def moments(taps: Tensor, valid: Sequence[int], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(B, k) means and (B, k, k) covariances of the taps in float64; the waveform gets no gradient by them."""
    means, spreads = [], []
    for part, count in zip(taps.split(list(rows)), valid, strict=True):
        own = part[:count].double()
        mean = own.mean(0)
        own = own - mean
        means.append(mean)
        spreads.append(own.t() @ own / count)
    return torch.stack(means), torch.stack(spreads)


class _ByClip(torch.autograd.Function):
    """``taps @ weights[i] + shifts[i]`` for the rows of clip i, written where they belong."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, weights: Tensor, shifts: Tensor, rows: list[int]) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.rows = rows
        out = taps.new_empty(len(taps), weights.shape[2])
        for part, place, weight, shift in zip(taps.split(rows), out.split(rows), weights, shifts, strict=True):
            torch.addmm(shift, part, weight, out=place)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor, None]:
        (taps,) = ctx.saved_tensors
        pairs = list(zip(taps.split(ctx.rows), grad.split(ctx.rows), strict=True))
        weights = torch.stack([part.t() @ own for part, own in pairs])
        return None, weights, torch.stack([own.sum(0) for _, own in pairs]), None
