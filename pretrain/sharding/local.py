"""Tensors that several processes hold together: which part of one lies here."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

Box = tuple[tuple[int, ...], tuple[int, ...]]


def local(tensor: Tensor) -> Tensor:
    """This process's part of ``tensor``, sharing its memory; a tensor that is not divided is its own part."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def box_of(tensor: Tensor) -> Box:
    """Where this process's part begins in ``tensor``, and its shape, one number a dimension.

    Raises:
        ValueError: it is divided otherwise than by its first dimension, as torch's ``fully_shard`` does.
    """
    if not isinstance(tensor, DTensor):
        return (0,) * tensor.ndim, tuple(tensor.shape)
    begin, mesh = 0, tensor.device_mesh
    for dimension, placement in enumerate(tensor.placements):
        if isinstance(placement, Shard):
            if placement.dim != 0 or begin:
                raise ValueError(f"divided by {tensor.placements}, not once by its rows")
            # As torch.chunk divides: all parts but the last ones are of equal size, those may be empty.
            rows = -(-tensor.shape[0] // mesh.size(dimension))
            begin = min(rows * mesh.get_local_rank(dimension), tensor.shape[0])
    return (begin, *(0 for _ in tensor.shape[1:])), tuple(tensor.to_local().shape)


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold parts of the parameters of ``model`` instead of all of them."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def divided(tensors: Iterable[Tensor]) -> tuple[list[DTensor], list[Tensor]]:
    """Those of ``tensors`` that are divided between processes, and those that each process has whole."""
    parts: list[DTensor] = []
    whole: list[Tensor] = []
    for tensor in tensors:
        if isinstance(tensor, DTensor):
            parts.append(tensor)
        else:
            whole.append(tensor)
    return parts, whole
