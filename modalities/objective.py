"""The objective protocol: features of one or two encoders -> loss and metrics over one step.

A step's loss is normalised over the *whole* global batch: each micro-batch adds ``sum of its terms / number of terms
in the global batch``, and gradients are summed over micro-batches and ranks. So neither accumulation nor the number of
devices changes them (docs/architecture.md, invariant 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from modalities.encoder import Encoder
from modalities.prepare import Batch

Encoders: TypeAlias = Mapping[str, Encoder]
Sums: TypeAlias = dict[str, Tensor]
Given = ParamSpec("Given")
Found = TypeVar("Found")


class Step:
    """What an objective may ask of the step it is part of; this one is a single process, no trainer needed.

    Attributes:
        number: the step, starting at 0.
        rank, world_size: this process among those that share the global batch.
    """

    rank = 0
    world_size = 1

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of ``loss``, which is this process's part of a sum over all processes."""
        loss.backward()

    def backward_alike(self, loss: Tensor) -> None:
        """The same of a loss that every process computes alike and that counts once."""
        self.backward(loss / self.world_size)

    def run(self, function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Found:
        """What ``function`` returns, a forward pass of a part of the model.

        Parameters that are divided between processes are whole only within: whatever computes with those of encoders
        and objectives goes through here, and its backward pass comes before that of another one.
        """
        return function(*given, **named)

    def all_sum(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes, without gradient."""
        return x

    def total(self, parts: Sequence[Sums]) -> Sums:
        """The sums over all micro-batches of all processes, of those of this process's micro-batches in their order."""
        sums: Sums = {}
        for part in parts:
            add(sums, part)
        return {name: self.all_sum(value) for name, value in sums.items()}

    def all_gather(self, x: Tensor) -> Tensor:
        """(n, ...) -> (N, ...): the rows of all processes in rank order, without gradient; n is the same in all."""
        return x

    def seed(self, micro: int) -> None:
        """Starts the random state of micro-batch ``micro``: the same draws however often it is computed."""


class Objective(nn.Module):
    """Base of the objectives whose loss is a sum over terms: masked tokens, next tokens, masked frames.

    A subclass implements :meth:`count`, :meth:`forward` and :meth:`summary`; one whose loss couples the samples of a
    batch overrides :meth:`step` (see ``modalities.contrastive``).

    Attributes:
        sides: side name -> modality it must have, or "" for any; the task config pairs each with an encoder.
    """

    sides: ClassVar[dict[str, str]]

    def accept(self, encoders: Encoders) -> str | None:
        """Why ``encoders`` do not fit this objective, beyond their modality; None if they do."""
        return None

    def connect(self, encoders: Encoders) -> None:
        """Called once, before training: gives the encoders what the objective needs of them (a projection, say)."""

    def count(self, batch: Batch) -> int:
        """Number of loss terms in ``batch``, known from the prepared data alone."""
        raise TypeError(f"{type(self).__name__} lacks count()")

    def statistics(self, encoders: Encoders, batch: Batch) -> Sums | None:
        """Sums over the batch that the loss of *other* micro-batches depends on, or None (the usual case)."""
        return None

    def forward(self, encoders: Encoders, batch: Batch, step: Step, totals: Sums) -> tuple[Tensor, Sums]:
        """The loss summed over the terms of ``batch``, and sums for :meth:`summary`.

        Args:
            encoders: side -> encoder.
            batch: what the task's ``prepare.collate`` made.
            step: number and randomness of the step.
            totals: the :meth:`statistics` of the whole global batch, and ``count``, its number of terms, float64.
        """
        raise TypeError(f"{type(self).__name__} lacks forward()")

    def summary(self, sums: Sums) -> dict[str, Tensor]:
        """Metrics of a step or a held-out set from the ``sums`` of all its batches (``loss``, ``count``, own ones)."""
        return {"loss": sums["loss"] / sums["count"]}

    def chance(self, sums: Sums) -> dict[str, float]:
        """What each metric of :meth:`summary` would be for a model that learned nothing; absent ones have none."""
        return {}

    def details(self, sums: Sums) -> dict[str, dict[str, Any]]:
        """What a held-out metric of :meth:`summary` is made of, for who looks closer; absent ones have nothing."""
        return {}

    def step(self, encoders: Encoders, batches: Sequence[Batch], step: Step, weight: float) -> dict[str, Tensor]:
        """Forward and backward over this process's share of one global batch; returns metrics of the global batch."""
        parts = (self, *encoders.values())  # an objective may have no parameters of its own
        device = next(p.device for part in parts for p in part.parameters())
        totals = self._totals(encoders, batches, step, device)
        measured: list[Sums] = []
        for micro, batch in enumerate(batches):
            step.seed(micro)
            loss, extra = step.run(self, encoders, batch, step, totals)
            step.backward(loss * (weight / totals["count"].to(loss.dtype)))
            measured.append({"loss": loss.detach(), **extra})
        return self.summary({**step.total(measured), "count": totals["count"]})

    def _totals(self, encoders: Encoders, batches: Sequence[Batch], step: Step, device: torch.device) -> Sums:
        # Filled on the device: a tensor made of a host value would be copied there, and the host would wait.
        count = torch.full((), float(sum(map(self.count, batches))), dtype=torch.float64, device=device)
        totals: Sums = {"count": step.all_sum(count)}
        if len(batches) * step.world_size > 1:
            found: list[Sums] = []
            with torch.no_grad():
                for micro, batch in enumerate(batches):
                    step.seed(micro)
                    own: Sums | None = step.run(self.statistics, encoders, batch)
                    found.append(own or {})
            totals |= step.total(found)
        return totals

    @torch.no_grad()
    def measure(self, encoders: Encoders, batches: Sequence[Batch], step: Step) -> dict[str, dict[str, Any]]:
        """Held-out metrics over ``batches``, ``{name: {"value": ..., "chance": ..., further details}}``."""
        sums: Sums = {}
        for micro, batch in enumerate(batches):
            step.seed(micro)
            count = torch.tensor(float(self.count(batch)), dtype=torch.float64)
            loss, extra = self(encoders, batch, step, {"count": count})
            add(sums, {"loss": loss.double(), "count": count, **extra})
        chance, details = self.chance(sums), self.details(sums)
        return {
            name: {"value": float(value)} | ({"chance": chance[name]} if name in chance else {}) | details.get(name, {})
            for name, value in self.summary(sums).items()
        }


def add(sums: Sums, more: Sums) -> None:
    """Adds ``more`` to ``sums``, name by name."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value
