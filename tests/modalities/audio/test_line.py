"""Clips that are written where their batch lies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from data.loading.loader import StepLoader, TaskData
from data.loading.making import prepare_at
from data.loading.room import making, room
from data.stream import Stream
from data.write import write
from modalities.audio.line import Line
from modalities.audio.prepare import AudioPrepare


def clips(line: Line, lengths: list[int]) -> list[np.ndarray]:
    found = []
    for number, length in enumerate(lengths, 1):
        found.append(line.place(length))
        found[-1][:] = number
    return found


def expected(lengths: list[int], hop: int) -> np.ndarray:
    parts = [np.pad(np.full(n, k, np.float32), (0, -n % hop)) for k, n in enumerate(lengths, 1)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


@pytest.mark.parametrize("lengths", [[7, 10, 1], [10], [3, 3, 3, 3], [12, 1], [30]])
def test_a_batch_is_its_clips(lengths: list[int]) -> None:
    line = Line(5)
    for attempt in range(3):
        with making():
            made = clips(line, lengths)
            found = line.joined(made)
            assert np.array_equal(found, expected(lengths, 5))
            assert np.shares_memory(found, made[0]) == (attempt > 0)  # how much it takes is known by then


def test_what_is_no_line_is_copied() -> None:
    line = Line(5)
    with making():
        line.joined(clips(line, [9, 9, 9]))
    with making():  # one of a sample that turned out to be unusable
        made = clips(line, [4, 6, 5])
        assert np.array_equal(line.joined([made[0], made[2]]), [1, 1, 1, 1, 0, 3, 3, 3, 3, 3])
    with making():
        made = clips(line, [4, 6])
        assert np.array_equal(line.joined(made[::-1])[:10], [2] * 6 + [0] * 4)
    with making():  # one was changed, and is another array
        made = clips(line, [4, 6])
        assert np.array_equal(line.joined([made[0], made[1] + 1]), [1, 1, 1, 1, 0, *[3] * 6, *[0] * 4])
    with making():  # more than there was ever
        lengths = [9, 9, 9, 9]
        assert np.array_equal(line.joined(clips(line, lengths)), expected(lengths, 5))


def test_room_that_nobody_uses_is_not_taken() -> None:
    line, taken = Line(5), []

    def memory(size: int) -> np.ndarray:
        taken.append(size)
        return np.zeros(size, np.uint8)

    for _ in range(4):  # augmented ones: other arrays than those that were placed
        with making(memory):
            line.joined([clip + 1 for clip in clips(line, [9, 9])])
    assert len(taken) == 1


def test_outside_of_a_loader_each_clip_is_its_own() -> None:
    line = Line(5)
    with making():
        line.joined(clips(line, [9, 9]))
    assert room() is None
    made = clips(line, [4, 6])
    assert not np.shares_memory(*made)
    assert made[0].base is None
    assert np.array_equal(line.joined(made), expected([4, 6], 5))
    for other in (pickle.loads(pickle.dumps(line)), copy.deepcopy(line)):  # noqa: S301
        assert np.array_equal(other.joined(clips(other, [4, 6])), expected([4, 6], 5))


def test_one_batch_never_lies_where_another_does() -> None:
    memory = np.zeros(4096, np.uint8)
    line, other = Line(5), Line(5)
    for attempt in range(2):
        with making(lambda size: memory[:size]):
            first, second = clips(line, [9, 9]), clips(other, [8, 8])
            found = line.joined(first), other.joined(second)
            assert np.array_equal(found[0], expected([9, 9], 5))
            assert np.array_equal(found[1], expected([8, 8], 5))
            assert [np.shares_memory(part, memory) for part in found] == [attempt > 0] * 2


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("unusable", [False, True])
def test_a_loader_hands_on_the_same(recording, tmp_path, workers: int, unusable: bool) -> None:
    lengths = np.random.default_rng(0).integers(4000, 9000, 24).tolist()
    samples = [(f"{number:05d}", recording(samples=n).members) for number, n in enumerate(lengths)]
    if unusable:  # found when the clip has its place already
        samples[5][1]["flac"] = samples[5][1]["flac"][:3000]
        samples[11] = samples[11][0], recording(np.zeros(6000, np.float32)).members
    write(samples, tmp_path / "shards", "clips", 10**6)
    alone = TaskData(Stream("task", str(tmp_path / "shards"), seed=0), AudioPrepare(max_seconds=0.5), 4)
    units = [prepare_at(alone, range(begin, begin + 4), True) for begin in range(0, 40, 4)]
    assert len({row.key for unit in units for row in unit.rejected}) == 2 * unusable
    task = TaskData(Stream("task", str(tmp_path / "shards"), seed=0), AudioPrepare(max_seconds=0.5), 4)
    loader = StepLoader({"task": task}, 0, 10, workers=workers)
    try:
        kept = [step.tasks["task"][0]["wave"] for step in loader]  # all at once: no batch is written over
    finally:
        loader.close()
    assert len(kept) == 10
    for found, wanted in zip(kept, units, strict=True):
        assert found.equal(wanted.batch["wave"])
