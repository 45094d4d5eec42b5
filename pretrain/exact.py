"""Gradients with the same bits on any number of devices: ``trainer.deterministic=exact``.

Rounding depends on what is computed together and on the order of sums. So a task's global batch is cut into
micro-batches of one fixed size (``trainer.exact_micro_batch_size``) whoever computes them, each has its random state by
its number in the global batch, and all that is summed over them, gradients and statistics, is summed along one binary
tree over these numbers. A process adds up the subtrees that lie within its share, gives their sums to the others, and
all go on with the sums of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data.errors import InputError
from modalities.objective import Sums
from pretrain.gradients import Gradients
from pretrain.tree import Tree, subtrees

_BUCKET = 1 << 22  # numbers that are sent at a time


class ExactGradients(Gradients):
    """Each backward pass is a leaf; see the module's head. Memory: a gradient for each level of the tree."""

    def __init__(self, model: nn.Module, rank: int, world_size: int) -> None:
        super().__init__(model, rank, world_size)
        self.share = 1.0
        self.micro_batches = 0
        self._tree: Tree[dict[nn.Parameter, Tensor]] = Tree(_merge)
        self._alike: dict[nn.Parameter, Tensor] = {}
        self._step: dict[nn.Parameter, Tensor] = {}

    def begin(self, micro_batches: int) -> None:
        """See :class:`Gradients`."""
        self.micro_batches = micro_batches

    def names(self, micro: int) -> tuple[int, ...]:
        """The micro-batch's number in the global batch, whoever computes it."""
        return (self._number(micro),)

    def take(self, micro: int) -> None:
        """See :class:`Gradients`."""
        self._tree.push((0, self._number(micro)), self._taken())

    def take_alike(self) -> None:
        """See :class:`Gradients`."""
        self._alike = _merge(self._alike, self._taken())

    def total(self, parts: Sequence[Sums]) -> Sums:
        """See :class:`Gradients`; sums in float64."""
        if not parts[0]:
            return {}
        like = parts[0]
        flat = [torch.cat([part[name].detach().double().flatten() for name in like]) for part in parts]
        leaves = _gathered(torch.stack(flat), self.world_size).flatten(0, 1)
        tree: Tree[Tensor] = Tree(torch.add)
        for number, leaf in enumerate(leaves):
            tree.push((0, number), leaf)
        sums = tree.total().split([value.numel() for value in like.values()])
        return {name: s.view_as(v).to(v.dtype) for (name, v), s in zip(like.items(), sums, strict=True)}

    def end(self) -> None:
        """See :class:`Gradients`."""
        found = self._whole()
        for parts in (found, self._alike):
            self._step = _merge(self._step, parts)
        self._tree, self._alike = Tree(_merge), {}

    def finish(self) -> list[nn.Parameter]:
        """See :class:`Gradients`."""
        found = [p for p in self.model.parameters() if p in self._step]
        for p in found:
            p.grad = self._step[p]
        self._step = {}
        return found

    def _number(self, micro: int) -> int:
        return self.rank * self.micro_batches + micro

    def _taken(self) -> dict[nn.Parameter, Tensor]:
        taken = {p: p.grad for p in self.model.parameters() if p.grad is not None}
        for p in taken:
            p.grad = None
        return taken

    def _whole(self) -> dict[nn.Parameter, Tensor]:
        """The task's gradients, of all processes."""
        nodes = self._tree.nodes
        if not nodes:
            return {}
        if self.world_size == 1:
            return self._tree.total()
        found: dict[nn.Parameter, Tensor] = {}
        places = [subtrees(rank * self.micro_batches, self.micro_batches) for rank in range(self.world_size)]
        most = max(map(len, places))
        shared = self.anywhere([p for p in self.model.parameters() if any(p in grads for _, grads in nodes)])
        for bucket in _buckets(iter(shared)):
            rows = [torch.cat([_flat(p, grads) for p in bucket]) for _, grads in nodes]
            rows += [torch.zeros_like(rows[0])] * (most - len(rows))
            tree: Tree[Tensor] = Tree(Tensor.add_)
            for own, values in zip(places, _gathered(torch.stack(rows), self.world_size), strict=True):
                for place, value in zip(own, values, strict=False):  # fewer places than rows: zeros
                    tree.push(place, value)
            sums = tree.total().split([p.numel() for p in bucket])
            found |= {p: s.view_as(p).clone() for p, s in zip(bucket, sums, strict=True)}
        return found


def check_exact(config: Mapping[str, Any], world_size: int) -> None:
    """Checks that each device's share of each batch is made up of whole micro-batches.

    Raises:
        InputError: naming the task and the sizes that fit.
    """
    size = config["trainer"]["exact_micro_batch_size"]
    shares = {name: spec["batch_size"] // world_size for name, spec in config["tasks"].items()}
    for name, share in shares.items():
        if world_size > 1 and share % size:
            fitting = [str(n) for n in range(1, min(shares.values()) + 1) if not any(s % n for s in shares.values())]
            raise InputError(
                f"trainer.exact_micro_batch_size={size} does not divide the {share} samples of task '{name}' on each "
                f"of {world_size} devices; choices: {', '.join(fitting)} (the same one for the whole run)"
            )


def micro_batch_size(config: Mapping[str, Any], task: Mapping[str, Any]) -> int | None:
    """Most samples of a ``task`` of a run that are computed together; None: a device's whole share."""
    exact = config["trainer"]["deterministic"] == "exact"
    size: int | None = config["trainer"]["exact_micro_batch_size"] if exact else task["micro_batch_size"]
    return size


def _merge(one: dict[nn.Parameter, Tensor], other: dict[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
    """The sums of two gradients, in the tensors of the first; either may lack parameters."""
    for p, grad in other.items():
        one[p] = one[p].add_(grad) if p in one else grad
    return one


def _flat(p: nn.Parameter, grads: Mapping[nn.Parameter, Tensor]) -> Tensor:
    return grads[p].flatten() if p in grads else p.new_zeros(p.numel())


def _buckets(parameters: Iterator[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for p in parameters:
        if bucket and (sum(map(Tensor.numel, bucket)) + p.numel() > _BUCKET or p.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def _gathered(own: Tensor, world_size: int) -> Tensor:
    """(...) -> (world_size, ...): what each process has, by rank."""
    if world_size == 1:
        return own.unsqueeze(0)
    parts = [torch.empty_like(own) for _ in range(world_size)]
    dist.all_gather(parts, own)
    return torch.stack(parts)
