"""A state as the pieces of it that this process holds, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pretrain.checkpoint.pieces import Piece
from pretrain.optim.ema import Ema
from pretrain.optim.state import optimizer_tensors
from pretrain.sharding.local import box_of, local


def pieces_of(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    """Name -> what of it lies here: the memory of the tensors themselves, not copies. A part may be empty."""
    return {
        name: Piece(tuple(tensor.shape), box_of(tensor)[0], local(tensor.detach())) for name, tensor in tensors.items()
    }


def model_pieces(model: nn.Module) -> dict[str, Piece]:
    """Parameters and buffers by name."""
    return pieces_of(model.state_dict())


def optimizer_pieces(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Piece]:
    """The optimizer's state as ``PARAMETER/STATE``.

    Raises:
        InputError: see :func:`pretrain.optim.state.optimizer_tensors`.
    """
    return pieces_of(optimizer_tensors(optimizer, model))


def ema_pieces(ema: Ema | None) -> dict[str, Piece]:
    """The averages of the weights by parameter name; none where none are kept."""
    return pieces_of(ema.tensors) if ema is not None else {}
