"""Each sample of a stream once, in its order: what measures and embeds reads data by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.errors import InputError, RunError
from data.loading import watch
from data.loading.block import Memory
from data.loading.loader import StepLoader
from data.loading.making import prepare_at
from data.loading.unit import TaskData, Unit
from data.loading.units import Units


class OnceLoader(StepLoader):
    """Batches of given positions as :class:`data.loading.loader.StepBatch`, prepared as held-out data is.

    An unusable sample is left out of its batch and named in ``rejected``; where none is left the batch is ``{}``.

    Args:
        data: what is read; ``batch_size`` and ``position`` do not count.
        batches: positions of each batch; what is in a batch decides about the last bits of what is computed of it.
        workers, prefetch, warn_after_s, deadline_s, pin_memory: see :class:`data.loading.loader.StepLoader`.
    """

    def __init__(
        self,
        data: TaskData,
        batches: Sequence[Sequence[int]],
        workers: int = 0,
        prefetch: int = 4,
        warn_after_s: float = 30.0,
        deadline_s: float = 300.0,
        pin_memory: bool = False,
    ) -> None:
        tasks = {data.stream.task: replace(data, batch_size=1, micro_batch_size=None, position=0)}
        whole = (0, len(batches), 0, 1)
        super().__init__(tasks, *whole, workers, prefetch, warn_after_s, deadline_s, pin_memory)
        self.units = _Batches(tasks, batches)


class _Batches(Units):
    """A batch as a unit of work."""

    def __init__(self, tasks: dict[str, TaskData], batches: Sequence[Sequence[int]]) -> None:
        super().__init__(tasks, 0, len(batches), rank=0, world_size=1)
        self._batches = batches
        (self._data,) = tasks.values()

    def make(self, number: int, seat: watch.Seat, memory: Memory | None = None, views: bool = True) -> Unit:
        """Batch ``number``; contents are never handed on as they are, so ``memory`` and ``views`` are not used."""
        name = self._data.stream.task
        seat.note(watch.PLANNING, 0, len(self._batches[number]))
        try:
            unit = prepare_at(self._data, self._batches[number], False, seat)
        except (InputError, RunError) as error:  # a process boundary would turn it into a wall of text
            unit = Unit(0, name, {}, np.empty((0, 2), dtype=np.int64), failure=error)
        unit.step = number
        return unit

    def positions(self, name: str, step: int) -> np.ndarray:
        """See :class:`data.loading.units.Units`."""
        return np.asarray(self._batches[step], dtype=np.int64)
