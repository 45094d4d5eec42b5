"""The unit of work: a micro-batch, prepared by whichever process and the same from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from data import watch
from data.errors import InputError, RunError, SampleError
from data.sample import Sample
from data.seeds import Randomness
from data.stream import Place, Stream

MAX_ATTEMPTS = 8
_BLOCK = 4096  # positions that are looked up together, or a step if that is more: the cost of a call is spread


class Prepares(Protocol):
    """What the loader asks of a task's prepare; the full protocol is ``modalities.prepare.Prepare``."""

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Any:
        """Tensors of one sample. ``rng`` is the sample's own only until the call returns."""

    def collate(self, items: list[Any]) -> dict[str, Any]:
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
    """A sample that could not be used, and why; ``kind`` is one of :data:`data.errors.KINDS`."""

    task: str
    position: int
    shard: str
    key: str
    member: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"'{self.key}' in '{self.shard}': {self.reason}"


@dataclass
class Unit:
    """One prepared micro-batch.

    Attributes:
        step, task: what it belongs to.
        batch: as collated.
        places: (n, 2) int64, source and number of each sample that was read.
        rejected: samples that were replaced.
        failure: why the run must end; there is no batch then.
    """

    step: int
    task: str
    batch: dict[str, Any]
    places: np.ndarray
    rejected: list[Rejected] = field(default_factory=list)
    failure: InputError | RunError | None = None


def prepare_at(
    data: TaskData,
    positions: Sequence[int],
    training: bool,
    seat: watch.Seat | None = None,
    places: list[Place] | None = None,
) -> Unit:
    """The micro-batch of the samples at ``positions``; unusable ones are named, and replaced in training.

    On held-out data they are left out: nothing is measured twice, and what cannot be measured ends no run.

    Args:
        data: of the task.
        positions: in the task's stream.
        training: as the task's prepare takes it.
        seat: where to note what is being done.
        places: what stands at ``positions``, where the caller knows.

    Raises:
        InputError: eight samples in a row were unusable; the data, not a sample, is at fault.
    """
    stream, prepare, items = data.stream, data.prepare, []
    rejected: list[Rejected] = []
    randomness = Randomness(stream.seed, stream.task)
    read, seat = stream.read, seat or watch.seats(1)[0]
    places = places or stream.locate(np.asarray(positions))
    used: list[Place] = []
    for done, position in enumerate(positions):
        place, attempt = places[done], 0
        while True:
            seat.reading(position, place.source, place.number, done)
            sample = None
            try:
                sample = read(place)
                seat.preparing(sample.key)
                items.append(prepare(sample, randomness(position), training))
                used.append(place)
                break
            except SampleError as error:
                shard, key = stream.identity(place)
                kind = error.kind if sample else "unreadable"
                rejected.append(Rejected(stream.task, position, shard, key, error.member, kind, str(error)))
            if not training:
                break
            if (attempt := attempt + 1) == MAX_ATTEMPTS:
                raise InputError(
                    f"task '{stream.task}': {MAX_ATTEMPTS} samples in a row cannot be used; the last is {rejected[-1]}"
                )
            place = stream.replacement(place, position, attempt - 1)
    seat.note(watch.COLLATING, seat.doing().task, len(items))
    found = np.array([(place.source, place.number) for place in used], dtype=np.int64).reshape(-1, 2)
    return Unit(-1, stream.task, prepare.collate(items) if items else {}, found, rejected)


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


class _Plan(NamedTuple):
    """The rank's share of ``steps`` steps from ``first`` on."""

    first: int
    steps: int
    positions: list[int]
    places: list[Place]


class Units:
    """A rank's micro-batches of the steps ``start`` to ``stop`` (exclusive), numbered through.

    Each global batch is dealt in the order that the stream arranges it in, the first share to rank 0.
    """

    def __init__(self, tasks: dict[str, TaskData], start: int, stop: int, rank: int, world_size: int) -> None:
        self.tasks, self.start, self.stop = tasks, start, stop
        self._shares: dict[str, slice] = {}  # of a global batch as it is dealt
        self.parts: list[tuple[str, int, int]] = []  # (task, begin, end) within the rank's share
        for name, task in tasks.items():
            if task.micro_batch_size is not None and task.micro_batch_size < 1:
                raise InputError(f"micro_batch_size={task.micro_batch_size} of task '{name}' is not 1 or more, or null")
            share = share_of(name, task.batch_size, world_size)
            self._shares[name] = slice(rank * share, (rank + 1) * share)
            micro = min(task.micro_batch_size or share, share)
            self.parts += [(name, begin, min(begin + micro, share)) for begin in range(0, share, micro)]
        self._numbers = {name: number for number, name in enumerate(tasks)}
        self._plans: dict[str, _Plan] = {}

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * len(self.parts)

    @property
    def per_step(self) -> int:
        """Micro-batches of a step, of all tasks together."""
        return len(self.parts)

    def make(self, number: int, seat: watch.Seat) -> Unit:
        """Micro-batch ``number``; a :class:`Unit` with a failure where the data or the run is at fault."""
        step, part = divmod(number, self.per_step)
        name, begin, end = self.parts[part]
        seat.note(watch.PLANNING, self._numbers[name], end - begin)
        try:
            positions, places = self._plan(name, step)
            unit = prepare_at(self.tasks[name], positions[begin:end], True, seat, places[begin:end])
        except (InputError, RunError) as error:  # a process boundary would turn it into a wall of text
            unit = Unit(0, name, {}, np.empty((0, 2), dtype=np.int64), failure=error)
        unit.step = self.start + step
        return unit

    def positions(self, name: str, step: int) -> np.ndarray:
        """The positions of a task's stream that this rank prepares for ``step``, counted from the first."""
        task = self.tasks[name]
        base = task.position + step * task.batch_size
        return task.stream.arrange(np.arange(base, base + task.batch_size))[self._shares[name]]

    def _plan(self, name: str, step: int) -> tuple[list[int], list[Place]]:
        """The positions of the rank's share of a step, and what stands there."""
        plan, task = self._plans.get(name), self.tasks[name]
        if plan is None or not 0 <= step - plan.first < plan.steps:
            steps = max(1, min(_BLOCK // task.batch_size, self.stop - self.start - step))
            bases = range(task.position + step * task.batch_size, 2**62, task.batch_size)[:steps]
            batches = [task.stream.arrange(np.arange(base, base + task.batch_size)) for base in bases]
            positions = np.concatenate([batch[self._shares[name]] for batch in batches])
            plan = self._plans[name] = _Plan(step, steps, positions.tolist(), task.stream.locate(positions))
        size = len(plan.positions) // plan.steps
        own = slice((step - plan.first) * size, (step - plan.first + 1) * size)
        return plan.positions[own], plan.places[own]


def describe(doing: watch.Doing, tasks: Mapping[str, TaskData]) -> str:
    """What a process that prepares samples of ``tasks`` is at, in words; reads no shard."""
    name = list(tasks)[doing.task]
    sources = tasks[name].stream.sources

    def shard(source: int, number: int) -> tuple[str, int]:
        found, inner = sources[source].place(number)
        return sources[source].urls[found].rpartition("/")[2], inner

    return watch.activity(doing, name, shard)
