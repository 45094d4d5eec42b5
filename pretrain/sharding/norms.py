"""The global norm of gradients, whoever holds them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import Shard

from pretrain.sharding.local import divided


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], limit: float | None) -> Tensor:
    """Scales the gradients of ``parameters`` down to a global norm of ``limit`` (None: leaves them).

    As ``torch.nn.utils.clip_grad_norm_`` (Pascanu et al. 2013). Gradients are already summed over processes. Nothing is
    read back from a device.

    Returns:
        The norm before, a scalar on the device of the parameters and the same bits in all processes; not finite where
        any gradient of any process is not.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts, whole = divided(gradients)
    if not parts:
        norm = nn.utils.get_total_norm(gradients)
        # On the host nothing is written where nothing changes: that would be a pass over all gradients. On a device the
        # host would have to wait to know.
        if limit is not None and (norm.device.type != "cpu" or not norm + 1e-6 <= limit):
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm
    mesh, placements = parts[0].device_mesh, parts[0].placements
    shards = [part.to_local() for part in parts]
    # An empty part has the norm 0.
    squares = torch.stack(torch._foreach_norm(shards)).square().sum()
    for dimension, placement in enumerate(placements):
        if isinstance(placement, Shard):  # the other processes hold copies of these parts
            dist.all_reduce(squares, group=mesh.get_group(dimension))
    if whole:
        squares = squares + torch.stack(torch._foreach_norm(whole)).square().sum()
    norm = squares.sqrt()
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch's own
        torch._foreach_mul_([*shards, *whole], factor)
    return norm
