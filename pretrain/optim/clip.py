"""Clipping by the global norm of the gradients (Pascanu et al. 2013)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def clip(parameters: Sequence[nn.Parameter], limit: float | None) -> Tensor:
    """Scales the gradients to a global norm of at most ``limit``, None for no limit; returns the norm they had.

    As ``torch.nn.utils.clip_grad_norm_``, but on the host nothing is written where nothing changes: that would be a
    pass over all gradients. On a device the host would have to wait to know.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if limit is not None and (norm.device.type != "cpu" or not norm + 1e-6 <= limit):
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
