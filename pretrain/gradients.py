"""How the gradients of a step add up: over backward passes, tasks and processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from modalities.objective import Sums, add
from modalities.plugin import PluginEncoder


class Gradients:
    """Autograd adds up a process's gradients, one collective those of all processes at the end of a step.

    Gradients of divided parameters are summed by each backward pass already.

    Args:
        model: whose gradients they are.
        rank: of this process.
        world_size: processes that share a step.

    Attributes:
        share: what a process adds of a gradient that all of them compute alike.
    """

    def __init__(self, model: nn.Module, rank: int, world_size: int) -> None:
        self.model, self.rank, self.world_size = model, rank, world_size
        self.share = 1 / world_size
        # A foreign module may leave out layers as it likes (its layer drop), so that processes have other gradients.
        foreign = [part for part in model.modules() if isinstance(part, PluginEncoder)]
        self._foreign = list(dict.fromkeys(p for part in foreign for p in part.parameters())) if world_size > 1 else []

    def begin(self, micro_batches: int) -> None:
        """A task begins, of which this process has ``micro_batches``."""

    def names(self, micro: int) -> tuple[int, ...]:
        """What names the random state of this process's micro-batch ``micro`` within its task and step."""
        return self.rank, micro

    def take(self, micro: int) -> None:
        """Called behind each backward pass, which was one of micro-batch ``micro``."""

    def take_alike(self) -> None:
        """Called behind a backward pass of which each process has computed the same, and added its ``share``."""

    def total(self, parts: Sequence[Sums]) -> Sums:
        """The sums over all micro-batches of all processes, of those of this process's micro-batches."""
        sums: Sums = {}
        for part in parts:
            add(sums, part)
        return {name: all_sum(value, self.world_size) for name, value in sums.items()}

    def end(self) -> None:
        """The task ends."""

    def finish(self) -> list[nn.Parameter]:
        """Leaves each parameter with the gradient of the whole step; those that have one."""
        found = self.anywhere([p for p in self.model.parameters() if p.grad is not None])
        for p in found:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        whole = [p.grad for p in found if p.grad is not None and not isinstance(p.grad, DTensor)]
        if self.world_size > 1 and whole:
            flat = torch.cat([grad.flatten() for grad in whole])
            dist.all_reduce(flat)
            for grad, total in zip(whole, flat.split([grad.numel() for grad in whole]), strict=True):
                grad.copy_(total.view_as(grad))
        return found

    def anywhere(self, own: Collection[nn.Parameter]) -> list[nn.Parameter]:
        """Parameters that have a gradient in some process, in the model's order, if ``own`` have one in this."""
        there = set(own)
        if self._foreign:
            flags = torch.tensor([p in there for p in self._foreign], dtype=torch.uint8, device=self._foreign[0].device)
            dist.all_reduce(flags, dist.ReduceOp.MAX)
            there |= {p for p, has in zip(self._foreign, flags.tolist(), strict=True) if has}
        return [p for p in self.model.parameters() if p in there]


def all_sum(x: Tensor, world_size: int) -> Tensor:
    """The sum of ``x`` over ``world_size`` processes, without gradient."""
    if world_size == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total
