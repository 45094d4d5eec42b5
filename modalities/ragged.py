"""Attention of sequences of different lengths on CPU: exact, without padding, masks or copies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modalities.first_order import first_order
from modalities.reach import Reach
from modalities.rotary import turn

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Ragged(torch.autograd.Function):
    """Rotation of queries and keys, then softmax attention, tile by tile.

    One node in the graph where splitting and joining by autograd would be one a sequence: each tile's gradient is
    written where it belongs, and the rotation is undone in place. Torch's own kernel does the work of a tile.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor | None, sin: Tensor | None, reach: Reach) -> Tensor:
        """(T, 3, H, E), twice (T, 1, E / 2) or None -> (T, H, E)."""
        total, _, heads, features = qkv.shape
        qk = qkv[:, :2]
        if cos is not None and sin is not None:
            cos, sin = cos.to(qkv.dtype).unsqueeze(1), sin.to(qkv.dtype).unsqueeze(1)
            qk = turn(qk, cos, sin, qkv.new_empty(total, 2, heads, features))
        q, k, v = qk[:, 0], qk[:, 1], qkv[:, 2]
        outs, sums = [], []
        for tile in reach.tiles:
            out, total_weight = _forward(
                rows(q, tile.query, tile.queries, tile.times),
                rows(k, tile.key, tile.keys, tile.times),
                rows(v, tile.key, tile.keys, tile.times),
                0.0,
                tile.causal,
                attn_mask=reach.mask(tile, qkv.dtype),
            )
            outs.append(out.transpose(1, 2).reshape(-1, heads, features))
            sums.append(total_weight)
        out = torch.cat(outs) if len(outs) > 1 else outs[0]
        ctx.save_for_backward(qk, qkv, out, cos, sin, *sums)
        ctx.reach = reach
        return out

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """(T, H, E) -> (T, 3, H, E)."""
        qk, qkv, out, cos, sin, *sums = ctx.saved_tensors
        q, k, v = qk[:, 0], qk[:, 1], qkv[:, 2]
        dqkv = torch.empty_like(qkv)
        written = len(qkv)  # from this row on; a key row may be in several tiles
        for tile, total_weight in zip(reversed(ctx.reach.tiles), reversed(sums), strict=True):
            asks = (tile.query, tile.queries, tile.times)
            gives = (tile.key, tile.keys, tile.times)
            dq, dk, dv = _backward(
                rows(grad, *asks),
                rows(q, *asks),
                rows(k, *gives),
                rows(v, *gives),
                rows(out, *asks),
                total_weight,
                0.0,
                tile.causal,
                attn_mask=ctx.reach.mask(tile, qkv.dtype),
            )
            rows(dqkv[:, 0], *asks).copy_(dq)
            fresh = min(written - tile.key, tile.keys * tile.times) // tile.times
            for which, part in ((1, dk), (2, dv)):
                place = rows(dqkv[:, which], *gives)
                if fresh == tile.keys:
                    place.copy_(part)
                else:
                    place[:, :, :fresh].copy_(part[:, :, :fresh])
                    place[:, :, fresh:] += part[:, :, fresh:]
            written = min(written, tile.key)
        if cos is not None:
            turn(dqkv[:, :2], cos, -sin, dqkv[:, :2])
        return dqkv, None, None, None


def rows(x: Tensor, begin: int, rows: int, count: int) -> Tensor:
    """(T, H, E) -> (count, H, rows, E), a view; in one call, as short texts need hundreds of them a step."""
    (row, head, feature), (_, heads, features) = x.stride(), x.shape
    shape, strides = (count, heads, rows, features), (rows * row, head, row, feature)
    return x.as_strided(shape, strides, x.storage_offset() + begin * row)
