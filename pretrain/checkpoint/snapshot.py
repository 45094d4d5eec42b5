"""The state as it is now, in host memory, so that training can go on while it is written."""

from __future__ import annotations

import mmap
from collections.abc import Mapping

import torch
from torch import Tensor

from pretrain.checkpoint.tensorfile import raw

_ALIGNED = 64  # bytes: what vector instructions and DMA like


class Snapshot:
    """Copies tensors into one block of host memory that is kept and used again.

    Taking memory from the system costs several times as much as copying into it; that is done once, in large pages
    where the system has them. A block that a CUDA device copies into is page-locked, so that all copies of a state are
    under way at once.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Kind -> name -> a copy, complete when this returns, and valid until the next call.

        Args:
            tensors: kind -> name -> tensor on any device.
        """
        every = [tensor for named in tensors.values() for tensor in named.values()]
        cuda = {tensor.device for tensor in every if tensor.device.type == "cuda"}
        needed = sum(_room(tensor) for tensor in every)
        if self._memory.numel() < needed:
            self._memory = _locked(needed) if cuda else _large(needed)
        copies: dict[str, dict[str, Tensor]] = {}
        end = 0
        for kind, named in tensors.items():
            copies[kind] = {}
            for name, tensor in named.items():
                start, end = end, end + _room(tensor)
                copies[kind][name] = _copied(tensor.detach(), self._memory[start:end])
        for device in cuda:
            torch.cuda.synchronize(device)
        return copies


def _room(tensor: Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // _ALIGNED) * _ALIGNED


def _large(size: int) -> Tensor:
    block = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(block, dtype=torch.uint8)


def _locked(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def _copied(tensor: Tensor, memory: Tensor) -> Tensor:
    memory = memory[: tensor.numel() * tensor.element_size()]
    copy = memory.view(tensor.dtype).view(tensor.shape)
    if tensor.device.type == "cpu" and tensor.is_contiguous():
        # One thread: torch would share out each tensor among its threads, and waits longer for them than it copies.
        memory.numpy().data[:] = raw(tensor)
    else:
        copy.copy_(tensor, non_blocking=True)
    return copy


def on_host(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The tensors themselves where they are on the host, else copies."""
    return {kind: {name: tensor.detach().cpu() for name, tensor in named.items()} for kind, named in tensors.items()}
