"""Attention inside sequences that lie end to end; H heads of E features each, T rows of all sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modalities.layout import Layout


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Softmax attention of each sequence to itself; (T, H, E) each -> (T, H, E).

    Sequences of one length go as one batch. Otherwise each goes alone on CPU, where that is exact and fastest, and on
    CUDA all go padded to the longest with a mask.
    """
    length = layout.uniform
    if length is not None:
        q, k, v = (x.view(len(layout), length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        return out.transpose(1, 2).reshape(-1, out.shape[1], out.shape[3])
    if q.device.type == "cpu":
        parts = zip(q.split(layout.lengths), k.split(layout.lengths), v.split(layout.lengths), strict=True)
        return torch.cat([_alone(*part, causal, dropout) for part in parts])
    return _padded(q, k, v, layout, causal, dropout)


def _alone(q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)[0].transpose(0, 1)


def _padded(q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool, dropout: float) -> Tensor:
    longest = max(layout.lengths)
    place = (layout.sequence, layout.position)

    def spread(x: Tensor) -> Tensor:
        return x.new_zeros(len(layout), longest, *x.shape[1:]).index_put(place, x).transpose(1, 2)

    column = torch.arange(longest, device=q.device)
    mask = (column[None] < layout.offsets.diff()[:, None])[:, None, None]
    if causal:
        mask = mask & (column[:, None] >= column[None])
    out = F.scaled_dot_product_attention(spread(q), spread(k), spread(v), attn_mask=mask, dropout_p=dropout)
    return out.transpose(1, 2)[place]


class Rotary:
    """Rotary positions (Su et al. 2021, section 3.4): rotates pairs of features by position-dependent angles."""

    def __init__(self, features: int, base: float = 10000.0) -> None:
        if features % 2:
            raise ValueError(f"rotary positions need an even number of features a head, got {features}")
        self.frequencies = base ** (-torch.arange(0, features, 2, dtype=torch.float32) / features)

    def angles(self, layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (T, 1, E), for the rows of ``layout``; made once a forward, used by every block."""
        turn = layout.position.to(torch.float32)[:, None] * self.frequencies.to(device)
        turn = torch.cat((turn, turn), -1).unsqueeze(1)
        return turn.cos(), turn.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Applies :meth:`Rotary.angles` to (T, H, E)."""
    cos, sin = angles
    left, right = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat((-right, left), -1) * sin.to(x.dtype)
