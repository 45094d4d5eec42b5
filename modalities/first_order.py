"""Gradients that have no gradient themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """The backward pass of a function that is not linear; with ``create_graph=True`` it is refused.

    ``once_differentiable`` alone refuses it only where what comes in depends on a parameter: where it does not, as from
    a sum, what is kept from the forward pass would be taken for constants, and a penalty on gradients be wrong.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *grads: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            name = type(ctx).__name__.removesuffix("Backward").strip("_")
            raise RuntimeError(f"{name} has no second derivative here: create_graph=True is not possible")
        return once(ctx, *grads)

    return checked
