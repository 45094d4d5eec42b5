"""The unit of work: a micro-batch, prepared by whichever process and the same from each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np

from data.errors import InputError, RunError
from data.loading import watch
from data.loading.block import Memory
from data.loading.located import LARGEST, look
from data.loading.making import prepare_at, prepare_block
from data.loading.room import making
from data.loading.unit import PreparesBlocks, TaskData, Unit
from data.seeds import Randomness
from data.shards.shardindex import AT_ONCE
from data.shards.spans import Spans, find
from data.store.url import base, remote
from data.stream import Place

_TOGETHER = 16384  # positions that are looked up together, or a step if that is more: the cost of a call is spread
_GROWTH = 4  # the first units are looked up alone: they are waited for


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
    """Units of a task, looked up together.

    Attributes:
        begins: unit -> the first of its samples.
        positions: (N,) in the task's stream.
        places: (N, 3) what stands there: source, epoch, number.
        spans: where they lie, for a prepare that takes blocks.
    """

    begins: dict[int, int]
    positions: np.ndarray
    places: np.ndarray
    spans: Spans | None


def _views(task: TaskData) -> bool:
    return getattr(task.prepare, "views", False)


def _fresh(size: int) -> np.ndarray:
    return np.empty(size, dtype=np.uint8)


class Units:
    """A rank's micro-batches of the steps ``start`` to ``stop`` (exclusive), numbered through.

    Each global batch is dealt in the order that the stream arranges it in, the first share to rank 0.

    Attributes:
        every: a process that makes each ``every``-th unit says so here, and does not look up those of others.
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
        self.every = 1
        self._plans: dict[str, _Plan] = {}
        self._randomness = {name: Randomness(task.stream.seed, task.stream.task) for name, task in tasks.items()}

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * len(self.parts)

    @property
    def per_step(self) -> int:
        """Micro-batches of a step, of all tasks together."""
        return len(self.parts)

    @property
    def views(self) -> bool:
        """Whether some are to be looked at where they lie: each must pass :meth:`arrived` then."""
        return any(map(_views, self.tasks.values()))

    def arrived(self, number: int, unit: Unit, seat: watch.Seat) -> Unit:
        """Unit ``number`` as the trainer takes it: with the batch of what was only located where it was made."""
        if unit.located is not None:
            task = self.tasks[unit.task]
            members = look(task.stream.sources, unit.located)
            if members is None:  # cut, changed or out of memory since then
                return self.make(number, seat, views=False)
            unit.batch, unit.located = cast(PreparesBlocks, task.prepare).from_views(members), None
        return unit

    def make(self, number: int, seat: watch.Seat, memory: Memory | None = None, views: bool = True) -> Unit:
        """Micro-batch ``number``; a :class:`Unit` with a failure where the data or the run is at fault.

        Args:
            number: from 0 on.
            seat: where to note what is being done.
            memory: what is handed on without another copy where it lies there; None: any.
            views: whether prepares that want to look at contents where they lie may do so.
        """
        step, part = divmod(number, self.per_step)
        name, begin, end = self.parts[part]
        seat.note(watch.PLANNING, self._numbers[name], end - begin)
        task = self.tasks[name]
        try:
            plan = self._plan(name, number)
            begin = plan.begins[number]
            end += begin - self.parts[part][1]
            positions, places = plan.positions[begin:end], plan.places[begin:end]
            if plan.spans is None:
                found = list(map(Place, *places.T.tolist()))
                with making(memory):
                    unit = prepare_at(task, positions.tolist(), True, seat, found, self._randomness[name])
            else:
                blocks = cast(PreparesBlocks, task.prepare)
                views = views and _views(task)
                unit = prepare_block(task, blocks, positions, places, plan.spans, begin, seat, memory or _fresh, views)
        except (InputError, RunError) as error:  # a process boundary would turn it into a wall of text
            unit = Unit(0, name, {}, np.empty((0, 2), dtype=np.int64), failure=error)
        unit.step = self.start + step
        return unit

    def positions(self, name: str, step: int) -> np.ndarray:
        """The positions of a task's stream that this rank prepares for ``step``, counted from the first."""
        task = self.tasks[name]
        base = task.position + step * task.batch_size
        return task.stream.arrange(np.arange(base, base + task.batch_size))[self._shares[name]]

    def _plan(self, name: str, number: int) -> _Plan:
        """What stands at the positions of unit ``number`` of a task and of units that this process makes soon after."""
        plan, task = self._plans.get(name), self.tasks[name]
        if plan is not None and number in plan.begins:
            return plan
        fields = getattr(task.prepare, "block_fields", None)
        pinning = fields is not None and task.stream.pinning  # an index may have to be fetched: not before it is needed
        wanted = 1 if plan is None or pinning else min(_TOGETHER, _GROWTH * len(plan.positions))
        last = number // self.per_step + max(1, _TOGETHER // task.batch_size)
        begins: dict[int, int] = {}
        steps: dict[int, int] = {}
        cuts, size = [], 0
        for unit in range(number, min(last * self.per_step, len(self)), self.every):
            step, part = divmod(unit, self.per_step)
            owner, begin, end = self.parts[part]
            if owner != name:
                continue
            if size and size + end - begin > wanted:
                break
            begins[unit] = size
            cuts.append((steps.setdefault(step, len(steps)), begin, end))
            size += end - begin
        bases = task.position + np.array(list(steps)) * task.batch_size
        shares = task.stream.arrange(bases[:, None] + np.arange(task.batch_size))[:, self._shares[name]]
        positions = np.concatenate([shares[row, begin:end] for row, begin, end in cuts])
        places = task.stream.locate_block(positions)
        most = LARGEST if _views(task) else AT_ONCE
        spans = None if fields is None else find(task.stream.sources, places, fields, most)
        plan = self._plans[name] = _Plan(begins, positions, places, spans)
        return plan


def describe(doing: watch.Doing, tasks: Mapping[str, TaskData]) -> str:
    """What a process that prepares samples of ``tasks`` is at, in words; reads no shard."""
    name = list(tasks)[doing.task]
    sources = tasks[name].stream.sources

    def shard(source: int, number: int) -> tuple[str, int]:
        found, inner = sources[source].place(number)
        return base(sources[source].urls[found]), inner

    return watch.activity(doing, name, shard)


def describe_wait(doing: watch.Doing, tasks: Mapping[str, TaskData]) -> str:
    """What a process that is waited for is at: :func:`describe`, and what helps where that may be a transfer."""
    stream, far = list(tasks.values())[doing.task].stream, False
    if doing.phase == watch.READING:
        source = stream.sources[doing.source]
        far = remote(source.urls[source.place(doing.number)[0]])
    elif doing.phase == watch.PLANNING:
        far = stream.remote
    hint = "; if a shard is still being transferred, raise loader.deadline_s (and trainer.timeout_s above it)"
    return describe(doing, tasks) + (hint if far else "")
