"""Puts a saved state into a model, an optimizer and averages, however they are divided between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from data.errors import InputError
from pretrain.optim.ema import Ema
from pretrain.optim.state import restore_optimizer
from pretrain.sharding.local import box_of, local
from pretrain.sharding.shard import reshard


class Source(Protocol):
    """What a state is read from; see :class:`pretrain.checkpoint.Reader`. Kinds are model, optimizer and ema."""

    def shapes(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of the whole tensor."""
        ...

    def tensor(
        self, kind: str, name: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A whole tensor, or the box of it that begins at ``offset``."""
        ...


def restore_from(source: Source, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None) -> None:
    """Puts weights, optimizer state and averages back; of divided tensors only this process's part is read.

    Raises:
        InputError: the state is of a model with other parameters or sizes, or of another optimizer.
    """
    reshard(model)  # parts that were gathered before would be out of date
    own = model.state_dict()
    check_shapes(source.shapes("model"), {name: tuple(tensor.shape) for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            local(tensor).copy_(local(read(source, "model", name, tensor)))
    optimizer.state.clear()
    parameters = dict(model.named_parameters())
    state = {
        full: read(source, "optimizer", full, parameters.get(full.rpartition("/")[0]))
        for full in source.shapes("optimizer")
    }
    restore_optimizer(optimizer, model, state)
    if ema is not None:
        ema.begin({name: read(source, "ema", name, parameters.get(name)) for name in source.shapes("ema")})


def check_shapes(saved: Mapping[str, Sequence[int]], own: Mapping[str, Sequence[int]]) -> None:
    """Compares what a checkpoint has with what a model has, name -> shape.

    Raises:
        InputError: naming the first tensor that only one of them has, or that differs in size.
    """
    for name in sorted(own.keys() | saved.keys()):
        if name not in own or name not in saved:
            one, other = ("lacks", "has") if name not in saved else ("has", "lacks")
            raise InputError(f"the checkpoint {one} '{name}', which this model {other}")
        if tuple(saved[name]) != tuple(own[name]):
            sizes = f"{tuple(saved[name])} in the checkpoint and {tuple(own[name])} in this model"
            raise InputError(f"'{name}' is {sizes}: another model size")


def read(source: Source, kind: str, name: str, like: Tensor | None) -> Tensor:
    """A saved tensor, divided as ``like`` is if it is of its shape; else whole."""
    shape = tuple(source.shapes(kind)[name])
    if not isinstance(like, DTensor) or shape != tuple(like.shape):
        return source.tensor(kind, name)
    offset, size = box_of(like)
    part = source.tensor(kind, name, offset, size).to(like.device)
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies whole ``tensors`` into the parameters of these names, of divided ones this process's part.

    Raises:
        KeyError: the model has no such parameter.
    """
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            offset, size = box_of(own[name])
            part = tensor[tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))]
            local(own[name]).copy_(part)
