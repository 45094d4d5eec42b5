"""An optimizer's state by parameter name, as checkpoints hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.errors import InputError


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state of ``optimizer`` by parameter name, ``NAME/exp_avg`` and so on.

    Raises:
        InputError: it keeps something else than tensors, which a checkpoint could not give back as it was.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if value is not None and not isinstance(value, Tensor):
                raise InputError(
                    f"{type(optimizer).__name__} keeps '{key}' of '{names[id(p)]}' as {type(value).__name__}; "
                    "only optimizers whose state is tensors can be continued exactly"
                )
    return {
        f"{names[id(p)]}/{key}": value
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` gave.

    Raises:
        InputError: the state belongs to a parameter that the model lacks.
    """
    parameters = dict(model.named_parameters())
    for full, tensor in tensors.items():
        name, _, key = full.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint has optimizer state for '{name}', which this model lacks")
        # Step counters stay on the host, as torch keeps them unless the optimizer is fused.
        device = parameters[name].device if tensor.ndim else tensor.device
        optimizer.state[parameters[name]][key] = tensor.to(device, copy=True)
