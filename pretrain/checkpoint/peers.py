"""The processes that save a state together, and how they agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """A group of processes; every method is a collective, called by all in the same order in their main threads.

    Attributes:
        rank: of this process.
        size: how many there are.
        group: of torch.distributed, on the hosts (gloo); None for the default group, or where there is one process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    def gather(self, value: T) -> list[T]:
        """What each process has to say, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: T) -> T:
        """What rank 0 has to say."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]  # type: ignore[no-any-return]
