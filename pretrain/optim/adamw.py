"""AdamW with the usual exceptions from weight decay, and rates by encoder and layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from data.errors import InputError
from pretrain.optim.groups import groups, trained

# One kernel for the whole update: on CUDA for the launches, on the host for the passes over memory, a third of those of
# one operation after another. Other devices may not have it.
FUSED = ("cpu", "cuda")


def adamw(
    parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    lr_factors: Mapping[str, float] | None = None,
    decay_embeddings: bool = True,
    fused: bool | None = None,
    device: str = "cpu",
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); vectors and scalars (biases, norms, temperatures) do not decay.

    Args:
        parameters: (name, parameter) pairs; parameter groups follow their order.
        lr: the learning rate that a schedule's factor multiplies.
        betas: decay of the averages of gradients and their squares.
        eps: keeps the denominator from zero.
        weight_decay: of matrices.
        layer_decay: factor of the rate from an encoder's layer to the one below it.
        lr_factors: place in the model -> factor of the rate; 0 freezes. See :func:`pretrain.optim.groups.trained`.
        decay_embeddings: whether token and position embeddings decay.
        fused: one kernel for all; None: on CUDA and the host. Where it is off, many tensors at once (foreach) but
            on the host.
        device: type of the device that the run is computed on.
    """
    parts = trained(parameters, layer_decay, lr_factors, decay_embeddings)
    return adamw_of(groups(parts, lr, weight_decay), lr, betas, eps, fused, device)


def adamw_of(
    members: list[dict], lr: float, betas: tuple[float, float], eps: float, fused: bool | None, device: str
) -> torch.optim.AdamW:
    """AdamW over parameter groups; see :func:`adamw`.

    Raises:
        InputError: ``betas`` are not two numbers of at least 0 and below 1, or ``eps`` is no number of 0 or more.
    """
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not all(_number(beta) and beta < 1 for beta in betas):
        raise InputError(f"betas={betas!r} is not two numbers of at least 0 and below 1, such as [0.9, 0.98]")
    if not _number(eps):
        raise InputError(f"eps={eps!r} is no number of 0 or more")
    fused = device in FUSED if fused is None else fused
    foreach = not fused and device != "cpu"
    return torch.optim.AdamW(members, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=fused, foreach=foreach)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf
