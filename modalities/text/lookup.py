"""Embeddings of tokens, whose gradient costs what is looked up and not what could be; V entries of D features."""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Bytes from which on an allocator asks the system for each block anew (glibc: pretrain/host.py). Smaller ones are
# at hand, and zeros are written faster than pages are made.
_LARGE = 32 * 2**20
_POPULATE_READ = 22  # of linux/mman.h


class TokenEmbedding(nn.Embedding):
    """``torch.nn.Embedding`` with the same values and gradients, its table untouched but for a batch's rows on CPU.

    The gradient of a table is zero but for some hundred of its rows, which torch writes out in full: 3 % of a step of a
    small CLIP. Here a large one is memory that the system hands out as zeros, of which pages exist once written.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Ids of any shape (...,) -> (..., D)."""
        table = self.weight
        plain = table.device.type != "cpu" or table.dtype not in (torch.float32, torch.float64) or table.nbytes < _LARGE
        if plain or not (torch.is_grad_enabled() and table.requires_grad):
            return super().forward(input)
        return _Lookup.apply(table, input.reshape(-1)).view(*input.shape, -1)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table = table.shape
        return table.index_select(0, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        # Of a tensor without contents (`pretrain plan`) the gradient has none either, and is to be counted.
        zeros = untouched_zeros(ctx.table, grad.dtype) if type(grad) is Tensor else grad.new_zeros(ctx.table)
        return zeros.index_add_(0, ids, grad), None


def untouched_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU in pages of their own, which the system makes when they are first written."""
    memory = mmap.mmap(-1, prod(shape) * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel before 5.14, or none of Linux: then each page is looked up when it is read
        memory.madvise(_POPULATE_READ)  # all of it the one page of zeros
    return torch.frombuffer(memory, dtype=dtype).view(shape)
