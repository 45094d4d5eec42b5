"""Leaving a block out of a training step (Fan et al. 2020, LayerDrop)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Skip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.clone()  # a view would be taken for the input of the next block

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return (grad, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors))


def skip(x: Tensor, block: nn.Module) -> Tensor:
    """``x``, with gradients of zero for the parameters of ``block``.

    Zero rather than none: which blocks are left out differs between processes, the gradients they sum must not.
    """
    return _Skip.apply(x, *block.parameters())
