"""Steps for a trainer: each rank's share of each task's global batch, prepared in worker processes.

The unit of work is a micro-batch. Worker w of k makes units w, w + k, ... and they are handed on in order, so the
number of workers, like the number of ranks, changes who works and not what comes out. The loader keeps no state: it is
told the first step and where each task's stream stands there.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

from data.errors import InputError, RunError, SampleError
from data.sample import Sample
from data.stream import Stream

MAX_ATTEMPTS = 8


class Prepares(Protocol):
    """What the loader asks of a task's prepare; the full protocol is ``modalities.prepare.Prepare``."""

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> dict[str, Any]:
        """Tensors of one sample."""

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """One batch."""


@dataclass(frozen=True)
class TaskData:
    """Where the samples of a task come from.

    Attributes:
        stream: position -> sample.
        prepare: sample -> tensors.
        batch_size: samples of one step on all ranks together (the global batch).
        micro_batch_size: most samples a rank computes at once; None for its whole share.
        position: samples consumed before the loader's first step.
    """

    stream: Stream
    prepare: Prepares
    batch_size: int
    micro_batch_size: int | None = None
    position: int = 0


class Rejected(NamedTuple):
    """A sample that could not be used, and why."""

    task: str
    position: int
    shard: str
    key: str
    reason: str


@dataclass
class Unit:
    """One prepared micro-batch, with the identity of its samples."""

    step: int
    task: str
    batch: dict[str, Any]
    samples: list[tuple[str, str]]
    rejected: list[Rejected] = field(default_factory=list)
    failure: str | None = None

    def pin_memory(self) -> Unit:
        """Called by torch's loader, which does not look into objects: the same unit, its tensors in pinned memory."""
        return replace(self, batch=pin_memory(self.batch))


@dataclass
class StepBatch:
    """All micro-batches of one step on this rank.

    Attributes:
        step: its number, counted from 0.
        tasks: task -> micro-batches.
        samples: task -> (shard, key) of each sample, in the order of positions.
        rejected: samples that were replaced.
        waited: seconds that the trainer waited for it.
    """

    step: int
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    waited: float = 0.0


def prepare_at(data: TaskData, positions: Sequence[int], training: bool) -> Unit:
    """The micro-batch of the samples at ``positions``; unusable ones are replaced and named.

    Raises:
        InputError: eight samples in a row were unusable; the data, not a sample, is at fault.
    """
    stream, items, samples, rejected = data.stream, [], [], []
    for position, place in zip(positions, stream.locate(np.asarray(positions)), strict=True):
        for attempt in range(MAX_ATTEMPTS):
            try:
                items.append(data.prepare(stream.read(place), stream.randomness(position), training))
                break
            except SampleError as error:
                rejected.append(Rejected(stream.task, position, *stream.identity(place), str(error)))
                place = stream.replacement(place, position, attempt)
        else:
            last = rejected[-1]
            raise InputError(
                f"task '{stream.task}': {MAX_ATTEMPTS} samples in a row cannot be used; "
                f"the last is '{last.key}' in '{last.shard}': {last.reason}"
            )
        samples.append(stream.identity(place))
    return Unit(-1, stream.task, data.prepare.collate(items), samples, rejected)


def share_of(task: str, batch_size: int, world_size: int) -> int:
    """Samples of each step that one of ``world_size`` ranks prepares.

    Raises:
        InputError: the global batch cannot be dealt evenly.
    """
    if batch_size < 1 or batch_size % world_size:
        fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0][:12]
        raise InputError(
            f"batch_size={batch_size} of task '{task}' cannot be dealt evenly to {world_size} devices; "
            f"numbers of devices that divide it: {', '.join(map(str, fitting)) or 'none'}"
        )
    return batch_size // world_size


class StepLoader:
    """Iterates over the steps ``start`` to ``stop`` (exclusive) as :class:`StepBatch`.

    Args:
        tasks: task -> its data.
        start, stop: numbers of the first step and the one after the last.
        rank, world_size: which share of each global batch is made.
        workers: processes that prepare; 0 prepares in this one.
        prefetch: steps that the workers may be ahead.
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
        pin_memory: bool = False,
    ) -> None:
        for name, task in tasks.items():
            if task.micro_batch_size is not None and task.micro_batch_size < 1:
                raise InputError(f"micro_batch_size={task.micro_batch_size} of task '{name}' is not 1 or more, or null")
        if workers < 0:
            raise InputError(f"workers={workers} is not 0 or more")
        self.units = _Units(tasks, start, stop, rank, world_size)
        self.workers, self.prefetch, self.pin_memory = workers, prefetch, pin_memory
        self._processes: list[Any] = []

    def __len__(self) -> int:
        return max(0, self.units.stop - self.units.start)

    def close(self) -> None:
        """Ends the workers. They ignore signals meant for the trainer, so nothing less than SIGKILL does."""
        for process in self._processes:
            process.kill()
        self._processes = []

    def __iter__(self) -> Iterator[StepBatch]:
        per_step = self.units.per_step
        loader: DataLoader[Unit] = DataLoader(
            self.units,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=max(1, -(-self.prefetch * per_step // self.workers)) if self.workers else None,
            pin_memory=self.pin_memory,
            worker_init_fn=_leave_signals_to_the_parent,
        )
        units = iter(loader)
        self._processes = list(getattr(units, "_workers", []))
        for step in range(self.units.start, self.units.stop):
            batch, asked = StepBatch(step), time.perf_counter()
            for _ in range(per_step):
                try:
                    unit = next(units)
                except RuntimeError as error:
                    if "DataLoader worker" not in str(error):
                        raise
                    raise RunError(
                        f"a loader worker died while step {step + 1} was prepared (killed, out of memory?): "
                        f"{str(error).splitlines()[0]}; the same command continues"
                    ) from None
                if unit.failure is not None:
                    raise InputError(unit.failure)
                batch.tasks.setdefault(unit.task, []).append(unit.batch)
                batch.samples.setdefault(unit.task, []).extend(unit.samples)
                batch.rejected.extend(unit.rejected)
            batch.waited = time.perf_counter() - asked
            yield batch


class _Units(IterableDataset):
    def __init__(self, tasks: dict[str, TaskData], start: int, stop: int, rank: int, world_size: int) -> None:
        self.tasks, self.start, self.stop = tasks, start, stop
        self.parts: list[tuple[str, int, int]] = []  # (task, first, last) within the global batch
        for name, task in tasks.items():
            share = share_of(name, task.batch_size, world_size)
            micro = min(task.micro_batch_size or share, share)
            begins = range(rank * share, (rank + 1) * share, micro)
            self.parts += [(name, begin, min(begin + micro, (rank + 1) * share)) for begin in begins]

    @property
    def per_step(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Unit]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, (self.stop - self.start) * self.per_step, stride):
            step, part = divmod(number, self.per_step)
            name, begin, end = self.parts[part]
            task = self.tasks[name]
            base = task.position + step * task.batch_size
            try:
                unit = prepare_at(task, range(base + begin, base + end), training=True)
            except InputError as error:  # a process boundary would turn it into a wall of text
                unit = Unit(0, name, {}, [], failure=str(error))
            unit.step = self.start + step
            yield unit


def _leave_signals_to_the_parent(worker: int) -> None:
    # Ctrl-C and a scheduler's signals reach every process of the job; the trainer decides when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
