"""Attention inside sequences that lie end to end; H heads of E features each, T rows of all sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modalities.layout import Layout
from modalities.ragged import Ragged
from modalities.reach import Reach
from modalities.rotary import Rotary, rotate

__all__ = ["Rotary", "attend", "packed_attention", "rotate"]


def attend(qkv: Tensor, angles: tuple[Tensor, Tensor] | None, reach: Reach, dropout: float = 0.0) -> Tensor:
    """Rotates queries and keys by ``angles``, if given, and attends; (T, 3, H, E) -> (T, H, E).

    On CPU sequence by sequence, without dropout as one node of the graph (:class:`Ragged`). On CUDA in half precision
    without dropout, torch's variable-length flash kernel; otherwise one batch where lengths are equal, else padded to
    the longest with a mask.
    """
    if qkv.device.type == "cpu" and not dropout:
        cos, sin = angles or (None, None)
        return Ragged.apply(qkv, cos, sin, reach)
    q, k, v = qkv.unbind(1)
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    if qkv.device.type == "cpu":
        return _tiled(q, k, v, reach, dropout)
    if _has_kernel(qkv, reach, dropout):
        starts, longest = reach.starts, reach.longest
        return _kernel()(q, k, v, starts, starts, longest, longest, window_size=reach.sides)
    return _padded(q, k, v, reach, dropout)


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool = False, dropout: float = 0.0, window: int = 0
) -> Tensor:
    """Softmax attention of each sequence to itself; (T, H, E) each -> (T, H, E)."""
    return attend(torch.stack((q, k, v), 1), None, Reach(layout, causal, window), dropout)


def _kernel() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn  # registers operators: a second at start that CPUs do not need

    return varlen_attn


def _has_kernel(x: Tensor, reach: Reach, dropout: float) -> bool:
    """Whether the variable-length kernel takes it, and is better than one batch of equal lengths."""
    if x.device.type != "cuda" or dropout or x.dtype not in (torch.float16, torch.bfloat16):
        return False
    if reach.layout.uniform is not None and not reach.window:
        return False
    # Flash attention wants Ampere or later, and heads of a multiple of 8 features, 256 at most.
    return x.shape[-1] % 8 == 0 and x.shape[-1] <= 256 and torch.cuda.get_device_capability(x.device) >= (8, 0)


def _tiled(q: Tensor, k: Tensor, v: Tensor, reach: Reach, dropout: float) -> Tensor:
    tiles = reach.tiles if reach.window else reach.whole
    sizes = [tile.queries * tile.times for tile in tiles]
    asked = q.split(sizes)
    if reach.window:
        given = [tuple(x[t.key : t.key + t.keys * t.times] for x in (k, v)) for t in tiles]
    else:  # keys are where queries are; the gradient of a split is one join, that of a slice a tensor of zeros
        given = list(zip(k.split(sizes), v.split(sizes), strict=True))
    outs = []
    for tile, query, (key, value) in zip(tiles, asked, given, strict=True):
        q1, k1, v1 = (x.unflatten(0, (tile.times, -1)).transpose(1, 2) for x in (query, key, value))
        out = F.scaled_dot_product_attention(q1, k1, v1, reach.mask(tile, q.dtype), dropout, tile.causal)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outs)


def _padded(q: Tensor, k: Tensor, v: Tensor, reach: Reach, dropout: float) -> Tensor:
    layout, longest = reach.layout, reach.longest
    if layout.uniform is not None:
        q, k, v = (x.unflatten(0, (len(layout), longest)).transpose(1, 2) for x in (q, k, v))
        simple = not reach.window
        mask = None if simple else reach.padded
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=reach.causal and simple)
        return out.transpose(1, 2).flatten(0, 1)
    place = (layout.sequence, layout.position)

    def spread(x: Tensor) -> Tensor:
        return x.new_zeros(len(layout), longest, *x.shape[1:]).index_put(place, x).transpose(1, 2)

    out = F.scaled_dot_product_attention(spread(q), spread(k), spread(v), reach.padded, dropout_p=dropout)
    return out.transpose(1, 2)[place]
