"""Steps for a trainer: each rank's share of each task's global batch, prepared in worker processes.

The unit of work is a micro-batch. Worker w of k makes units w, w + k, ... and they are handed on in order, so the
number of workers, like the number of ranks, changes who works and not what comes out. The loader keeps no state: it is
told the first step and where each task's stream stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice, repeat
from time import monotonic
from typing import Any

import numpy as np

from data.errors import InputError
from data.loading import watch
from data.loading.ahead import Ahead
from data.loading.making import prepare_at
from data.loading.transport import pin
from data.loading.unit import Prepares, PreparesBlocks, Rejected, TaskData, Unit
from data.loading.units import Units, describe_wait, share_of
from data.loading.workers import Crew

__all__ = [
    "Prepares",
    "PreparesBlocks",
    "Rejected",
    "StepBatch",
    "StepLoader",
    "TaskData",
    "Unit",
    "prepare_at",
    "share_of",
]


@dataclass
class StepBatch:
    """All micro-batches of one step on this rank.

    Attributes:
        step: its number, counted from 0.
        tasks: task -> micro-batches.
        places: task -> (n, 2) int64, the source and the number there of each sample that was read, in the order it
            was dealt; ``stream.identity`` gives its shard and key.
        rejected: samples that were replaced.
        waited: seconds that the trainer waited for it.
    """

    step: int
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    places: dict[str, np.ndarray] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    waited: float = 0.0

    @property
    def count(self) -> int:
        """Samples of all tasks, on this rank."""
        return sum(map(len, self.places.values()))


class StepLoader:
    """Iterates over the steps ``start`` to ``stop`` (exclusive) as :class:`StepBatch`.

    Args:
        tasks: task -> its data.
        start, stop: numbers of the first step and the one after the last.
        rank, world_size: which share of each global batch is made.
        workers: processes that prepare; 0 prepares in this one.
        prefetch: steps that the workers may be ahead; more of those that are made in less than two milliseconds.
        warn_after_s: seconds that a step may be waited for before a warning says who is late, and with which sample.
        deadline_s: seconds after which the run ends with that message; less than what other ranks wait for this one.
        pin_memory: for copies to a CUDA device that do not wait.

    Raises:
        InputError: a global batch cannot be dealt evenly to the ranks, or a number is out of range.
    """

    def __init__(
        self,
        tasks: dict[str, TaskData],
        start: int,
        stop: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        warn_after_s: float = 30.0,
        deadline_s: float = 300.0,
        pin_memory: bool = False,
    ) -> None:
        if workers < 0:
            raise InputError(f"workers={workers} is not 0 or more")
        self.units = Units(tasks, start, stop, rank, world_size)
        self.rank, self.workers, self.prefetch, self.pin_memory = rank, workers, prefetch, pin_memory
        self._watchdog = watch.Watchdog(self._late, warn_after_s, deadline_s)
        self._ahead = Ahead({name: task.stream for name, task in tasks.items()})
        self._seat = watch.seats(1)[0]
        self._crew: Crew | None = None
        self._step = start

    def __len__(self) -> int:
        return max(0, self.units.stop - self.units.start)

    @property
    def processes(self) -> list[int]:
        """Ids of the worker processes."""
        return [worker.pid for worker in self._crew.workers] if self._crew else []

    def close(self) -> None:
        """Ends the workers, however the run ended."""
        if self._crew is not None:
            self._crew.close()

    def __iter__(self) -> Iterator[StepBatch]:
        self.close()
        if self.workers:
            ahead = max(1, self.prefetch) * self.units.per_step
            self._crew = Crew(self.units, self.workers, ahead, self.pin_memory)
        units = iter(self._crew) if self._crew else self._made_here()
        if self.units.views:
            units = map(self.units.arrived, count(), units, repeat(self._seat))
        try:
            with self._watchdog.watching():
                for step in range(self.units.start, self.units.stop):
                    self._step = step
                    self._ahead.look(step - self.units.start, self.units.positions)
                    yield self._gather(step, units)
        finally:
            self.close()

    def _gather(self, step: int, units: Iterator[Unit]) -> StepBatch:
        """One step; the watchdog looks on.

        Raises:
            InputError: the data is at fault.
            RunError: a worker died, or nothing came until the deadline.
        """
        batch = StepBatch(step)
        places: dict[str, list[np.ndarray]] = {}
        asked = self._watchdog.begin()
        for unit in islice(units, self.units.per_step):
            if unit.failure is not None:
                raise unit.failure
            batch.tasks.setdefault(unit.task, []).append(unit.batch)
            places.setdefault(unit.task, []).append(unit.places)
            batch.rejected.extend(unit.rejected)
        self._watchdog.end()
        # Copies: who keeps a ledger of them keeps no micro-batch with them.
        batch.places = {
            name: np.concatenate(parts) if len(parts) > 1 else parts[0].copy() for name, parts in places.items()
        }
        batch.waited = monotonic() - asked
        return batch

    def _made_here(self) -> Iterator[Unit]:
        for number in range(len(self.units)):
            unit = self.units.make(number, self._seat)
            yield pin(unit) if self.pin_memory else unit

    def _late(self) -> str:
        """Who keeps the trainer waiting, in words."""
        who = f"rank {self.rank} waits for step {self._step + 1}"
        if self._crew is None:
            return f"{who} and {describe_wait(self._seat.doing(), self.units.tasks)}"
        worker = self._crew.next
        state, doing = watch.process_state(worker.pid), describe_wait(worker.seat.doing(), self.units.tasks)
        return f"{who}; loader worker {worker.number} (process {worker.pid}, {state}) {doing}"
