"""Attention of sequences of different lengths on CPU: exact, without padding, masks or copies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modalities.reach import Reach, Tile
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
        masks = _float_masks(reach.tiles, qkv.dtype)
        outs, sums = [], []
        for tile, mask in zip(reach.tiles, masks, strict=True):
            out, total_weight = _forward(
                rows(q, tile.query, tile.queries, tile.times),
                rows(k, tile.key, tile.keys, tile.times),
                rows(v, tile.key, tile.keys, tile.times),
                0.0,
                tile.causal,
                attn_mask=mask,
            )
            outs.append(out.transpose(1, 2).reshape(-1, heads, features))
            sums.append(total_weight)
        out = torch.cat(outs) if len(outs) > 1 else outs[0]
        ctx.save_for_backward(qk, qkv, out, cos, sin, *sums)
        ctx.reach, ctx.masks = reach, masks
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """(T, H, E) -> (T, 3, H, E)."""
        qk, qkv, out, cos, sin, *sums = ctx.saved_tensors
        q, k, v = qk[:, 0], qk[:, 1], qkv[:, 2]
        shared = any(mask is not None for mask in ctx.masks)  # then a key row is in several tiles
        dqkv = torch.zeros_like(qkv) if shared else torch.empty_like(qkv)
        for tile, mask, total_weight in zip(ctx.reach.tiles, ctx.masks, sums, strict=True):
            asks = (tile.query, tile.queries, tile.times)
            gives = (tile.key, tile.keys, tile.times)
            found = _backward(
                rows(grad, *asks),
                rows(q, *asks),
                rows(k, *gives),
                rows(v, *gives),
                rows(out, *asks),
                total_weight,
                0.0,
                tile.causal,
                attn_mask=mask,
            )
            for which, (part, run) in enumerate(zip(found, (asks, gives, gives), strict=True)):
                place = rows(dqkv[:, which], *run)
                if which and shared:
                    place += part
                else:
                    place.copy_(part)
        if cos is not None:
            turn(dqkv[:, :2], cos, -sin, dqkv[:, :2])
        return dqkv, None, None, None


def rows(x: Tensor, begin: int, rows: int, count: int) -> Tensor:
    """(T, H, E) -> (count, H, rows, E), a view; in one call, as short texts need hundreds of them a step."""
    (row, head, feature), (_, heads, features) = x.stride(), x.shape
    shape, strides = (count, heads, rows, features), (rows * row, head, row, feature)
    return x.as_strided(shape, strides, x.storage_offset() + begin * row)


def _float_masks(tiles: list[Tile], dtype: torch.dtype) -> list[Tensor | None]:
    made: dict[int, Tensor] = {}
    for tile in tiles:
        if tile.mask is not None and id(tile.mask) not in made:
            made[id(tile.mask)] = torch.zeros(tile.mask.shape, dtype=dtype).masked_fill_(~tile.mask, float("-inf"))
    return [None if tile.mask is None else made[id(tile.mask)] for tile in tiles]
