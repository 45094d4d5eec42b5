"""AdamW with the usual exception from weight decay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def adamw(
    parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); vectors and scalars (biases, norms, temperatures) do not decay.

    Args:
        parameters: (name, parameter) pairs; parameter groups follow their order.
        lr: the learning rate that a schedule's factor multiplies.
        betas: decay of the averages of gradients and their squares.
        eps: keeps the denominator from zero.
        weight_decay: of matrices.
    """
    named = [(name, p) for name, p in parameters if p.requires_grad]
    matrices = [p for _, p in named if p.ndim >= 2]
    others = [p for _, p in named if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps)
