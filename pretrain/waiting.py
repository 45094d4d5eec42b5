"""Waits that a signal cuts short, where there is something to wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Protocol

from data.loading.loader import StepBatch
from pretrain.signals import SIGNALS

PATIENCE_S = 20.0
"""Less than the half minute that schedulers give before they kill."""


class Batches(Sized, Protocol):
    """What gives the steps' batches."""

    def __iter__(self) -> Iterator[StepBatch]: ...


class Patient:
    """Batches, waited for only as long as nobody asks this process to stop.

    Args:
        batches: one a step.
        patience_s: how long a batch is still waited for after a signal. Alone, no time: what was done so far is saved.
            Of several ranks the others cannot be called off, so that what they do together is finished if data comes
            at all soon.
        done: whether the last step is done.
    """

    def __init__(self, batches: Batches, patience_s: float, done: Callable[[], bool]) -> None:
        self.batches, self.patience_s, self.done = batches, patience_s, done

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[StepBatch]:
        batches = iter(self.batches)
        while not self.done():  # behind the last one there is nothing to wait for, and nothing to stop
            with SIGNALS.cutting_short(self.patience_s):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
        yield from batches
