"""What the ranks tell one another after each step: a few whole numbers, in one exchange on the hosts.

A decision that changes what happens next (stop, save, go back, give up) must be the same on all ranks, or the next
collective hangs. So none is taken on a number that one rank alone has seen: it is offered here, and every rank decides
on what was agreed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist

_REDUCE: dict[str, Callable[[list[int]], int]] = {"max": max, "min": min, "sum": sum}


@dataclass
class _Offer:
    read: Callable[[], int]
    reduce: str
    said: list[int] = field(default_factory=list)


class Agreement:
    """Numbers under names, exchanged between all ranks once a step.

    The group is gloo's on the hosts, whatever the devices talk over: an exchange never waits for a device. A single
    process exchanges nothing, and reads back what it offered.

    Args:
        rank: of this process.
        world_size: how many processes there are.

    Attributes:
        group: of the exchange, None for one process; free for other collectives of the main thread at a step edge.
        timeout_s: how long it waits for the last rank.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.group: dist.ProcessGroup | None = None
        self.timeout_s = math.inf
        self._offers: dict[str, _Offer] = {}

    def offer(self, name: str, read: Callable[[], int], reduce: str = "max") -> None:
        """Adds a number to each exchange. All ranks offer the same names in the same order.

        Args:
            name: what it is asked for by.
            read: gives this rank's number when an exchange is due; int64.
            reduce: ``max``, ``min`` or ``sum``: what :meth:`value` makes of the ranks' numbers.

        Raises:
            ValueError: the name is taken, or there is no such reduction.
        """
        if name in self._offers or reduce not in _REDUCE:
            raise ValueError(f"'{name}' is offered already, or '{reduce}' is none of {', '.join(_REDUCE)}")
        self._offers[name] = _Offer(read, reduce)

    def open(self, timeout_s: float) -> None:
        """Makes the group; a collective, once the processes can talk to one another.

        Args:
            timeout_s: how long an exchange waits for the last rank.
        """
        if self.world_size > 1 and self.group is None:
            self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
            self.timeout_s = timeout_s

    def exchange(self) -> None:
        """Asks each offer for this rank's number and learns those of the others; a collective, at each step edge."""
        numbers = [offer.read() for offer in self._offers.values()]
        columns = list(zip(*self._gathered(numbers), strict=True))
        for offer, column in zip(self._offers.values(), columns, strict=True):
            offer.said = list(column)

    def value(self, name: str) -> int:
        """What the last exchange agreed on; 0 before the first one."""
        offer = self._offers[name]
        return _REDUCE[offer.reduce](offer.said) if offer.said else 0

    def said(self, name: str) -> list[int]:
        """Each rank's number in the last exchange, by rank; empty before the first one."""
        return list(self._offers[name].said)

    def gather(self, number: int) -> list[int]:
        """Each rank's ``number``, by rank: an exchange of its own, a collective."""
        return [row[0] for row in self._gathered([number])]

    def _gathered(self, numbers: list[int]) -> list[list[int]]:
        if self.group is None:
            return [numbers]
        own = torch.tensor(numbers, dtype=torch.int64)
        rows = [torch.empty_like(own) for _ in range(self.world_size)]
        dist.all_gather(rows, own, group=self.group)
        return [row.tolist() for row in rows]
