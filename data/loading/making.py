"""Makes micro-batches: sample by sample or in one piece, with unusable samples replaced in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.loading import block, watch
from data.loading.located import locate
from data.loading.unit import PreparesBlocks, Rejected, TaskData, Unit
from data.sample import Sample
from data.seeds import Randomness
from data.shards.spans import Spans
from data.store import held
from data.stream import Place

MAX_ATTEMPTS = 8
# Samples are read some at a time and then prepared: what reads and what decodes do not turn each other out of the
# processor's caches for each of them (3 to 6 % of decoding pictures and sounds). Bounded, as contents may be large:
# to what fits into a second-level cache.
_READ_TOGETHER, _READ_BYTES = 64, 2 << 20


class _Trying:
    """Reads samples until one is usable.

    Args:
        data: of the task.
        seat: where to note what is being done.
        training: whether unusable samples are replaced; else they are left out.
        make: (sample, position) -> what is wanted of it; raises SampleError if it is unusable.

    Attributes:
        rejected: those that were not.
    """

    def __init__(self, data: TaskData, seat: watch.Seat, training: bool, make: Callable[[Sample, int], Any]) -> None:
        self.stream, self.seat, self.training, self.make = data.stream, seat, training, make
        self.rejected: list[Rejected] = []

    def read(self, position: int, place: Place, done: int) -> Sample | SampleError:
        """What stands at ``position``, while ``done`` samples of the micro-batch are made; or why it cannot be read."""
        self.seat.reading(position, place.source, place.number, done)
        try:
            return self.stream.read(place)
        except SampleError as error:
            return error

    def read_some(self, wanted: Sequence[tuple[int, Place]], begin: int) -> list[Sample | SampleError]:
        """What stands at the next few of the positions ``wanted``, of which ``begin`` are made; one at least."""
        some: list[Sample | SampleError] = []
        size = 0
        for position, place in wanted[begin : begin + _READ_TOGETHER]:
            some.append(found := self.read(position, place, begin))
            size += found.size if isinstance(found, Sample) else 0
            if size >= _READ_BYTES:
                break
        return some

    def foresee(
        self,
        ahead: Callable[[Sample], None],
        wanted: Sequence[tuple[int, Place]],
        begin: int,
        some: Sequence[Sample | SampleError],
    ) -> None:
        """Lets a prepare look at what was read for the positions ``wanted`` from ``begin`` on, before any is made."""
        for (position, place), found in zip(wanted[begin:], some, strict=False):
            if isinstance(found, Sample):
                self.seat.preparing(position, place.source, place.number, begin, found.key)
                ahead(found)

    def __call__(
        self, position: int, place: Place, done: int, found: Sample | SampleError | None = None
    ) -> tuple[Any, Place] | None:
        """What was made for ``position`` after ``done`` others, and of which sample; None if it is left out.

        Args:
            position: in the task's stream.
            place: what stands there.
            done: samples of the micro-batch that are made.
            found: what :meth:`read` has found there, where that was called before.

        Raises:
            InputError: eight samples in a row were unusable; the data, not a sample, is at fault.
        """
        stream, attempt = self.stream, 0
        while True:
            found = found or self.read(position, place, done)
            if isinstance(found, Sample):
                self.seat.preparing(position, place.source, place.number, done, found.key)
                try:
                    return self.make(found, position), place
                except SampleError as error:
                    reason, kind = error, error.kind
            else:
                reason, kind = found, "unreadable"
            shard, key = stream.identity(place)
            row = Rejected(stream.task, position, shard, key, reason.member, kind, str(reason))
            self.rejected.append(row)
            if not self.training:
                return None
            if (attempt := attempt + 1) == MAX_ATTEMPTS:
                raise InputError(
                    f"task '{stream.task}': {MAX_ATTEMPTS} samples in a row cannot be used; the last is {row}"
                )
            found, place = None, stream.replacement(place, position, attempt - 1)


@held.during_work()
def prepare_at(
    data: TaskData,
    positions: Sequence[int],
    training: bool,
    seat: watch.Seat | None = None,
    places: list[Place] | None = None,
    randomness: Randomness | None = None,
) -> Unit:
    """The micro-batch of the samples at ``positions``; unusable ones are named, and replaced in training.

    On held-out data they are left out: nothing is measured twice, and what cannot be measured ends no run.

    Args:
        data: of the task.
        positions: in the task's stream.
        training: as the task's prepare takes it.
        seat: where to note what is being done.
        places: what stands at ``positions``, where the caller knows.
        randomness: of the task, where the caller has one already.

    Raises:
        InputError: eight samples in a row were unusable; the data, not a sample, is at fault.
    """
    stream, prepare, seat = data.stream, data.prepare, seat or watch.seats(1)[0]
    draw = randomness or Randomness(stream.seed, stream.task)
    trying = _Trying(data, seat, training, lambda sample, position: prepare(sample, draw(position), training))
    items, used = [], []
    wanted = list(zip(positions, places or stream.locate(np.asarray(positions)), strict=True))
    begin, ahead = 0, getattr(prepare, "foresee", None)
    while begin < len(wanted):
        some = trying.read_some(wanted, begin)
        if ahead and len(some) > 1:
            trying.foresee(ahead, wanted, begin, some)
        for number, content in enumerate(some, begin):
            made = trying(*wanted[number], number, content)
            if made:
                items.append(made[0])
                used.append(made[1])
        begin += len(some)
    seat.note(watch.COLLATING, seat.numbers[1], len(items))
    drawn = np.array([(place.source, place.number) for place in used], dtype=np.int64).reshape(-1, 2)
    return Unit(-1, stream.task, prepare.collate(items) if items else {}, drawn, trying.rejected)


@held.during_work()
def prepare_block(
    data: TaskData,
    prepare: PreparesBlocks,
    positions: np.ndarray,
    places: np.ndarray,
    spans: Spans,
    begin: int,
    seat: watch.Seat,
    memory: block.Memory,
    views: bool,
) -> Unit:
    """What :func:`prepare_at` makes in training, with the contents of all samples in one piece of ``memory``.

    Or with no contents, but where they lie: where all of them do in memory, and ``views`` is set.

    Args:
        data: of the task.
        prepare: of the task.
        positions: (n,) in the task's stream.
        places: (n, 3) what stands there: source, epoch, number.
        spans: where the samples lie, from number ``begin`` on.
        begin: see ``spans``.
        seat: where to note what is being done.
        memory: for the contents.
        views: whether they may be looked at where they lie.

    Raises:
        InputError: eight samples in a row were unusable; the data, not a sample, is at fault.
    """
    stream = data.stream
    numbers = places[:, 2] if len(stream.sources) == 1 else places[:, 2] + (places[:, 0] << watch.SOURCE_BITS)
    seat.reading_block(positions.item(0))
    if views and (located := locate(stream.sources, spans, begin, begin + len(places))) is not None:
        return Unit(-1, stream.task, {}, places[:, ::2], located=located)
    found, failed = block.read(stream.sources, spans, begin, begin + len(places), numbers.tolist(), memory, seat)
    used, rejected = places[:, ::2], []
    if failed:
        fields, used = prepare.block_fields, used.copy()
        trying, members = _Trying(data, seat, True, lambda sample, position: sample.contents(fields)), {}
        for number in failed:
            instead = trying(positions.item(number), Place(*places[number].tolist()), number)
            assert instead
            members[number] = instead[0]
            used[number] = instead[1].source, instead[1].number
        found, rejected = found.filled(members, memory), trying.rejected
    seat.turn_to(watch.COLLATING)
    return Unit(-1, stream.task, prepare.from_block(found), used, rejected)
