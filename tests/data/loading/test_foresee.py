"""What a prepare does for some samples before the first of them is made."""

import os

import numpy as np
import pytest
import torch

from data.errors import RunError, SampleError
from data.loading.loader import StepLoader, TaskData, prepare_at
from data.stream import Stream
from modalities.prepare import Sides

BATCH = 8


class Looking:
    """Tells what it is asked, in order; makes the length of a text, which it may have found out ahead."""

    def __init__(self, dies_at=None):
        self.dies_at, self.asked = dies_at, []

    def foresee(self, sample):
        self.asked.append(("foresee", sample.key))
        if sample.key == self.dies_at:
            os._exit(3)
        if b"\xff" not in sample.members["txt"]:
            sample.ready[self] = len(sample.members["txt"])

    def __call__(self, sample, rng, training):
        self.asked.append(("make", sample.key))
        if b"\xff" in sample.members["txt"]:
            raise SampleError("it is broken")
        found = sample.ready.pop(self, None)
        return (len(sample.members["txt"]) if found is None else found), found is not None

    def collate(self, items):
        return {"lengths": torch.tensor([n for n, _ in items]), "foreseen": [seen for _, seen in items]}


def test_all_that_is_read_together_is_shown_before_the_first_is_made(shards):
    prepare = Looking()
    unit = prepare_at(TaskData(Stream("one", shards("a", 23), 0), prepare, BATCH), range(BATCH), True)
    [first, second] = [[key for what, key in prepare.asked if what == kind] for kind in ("foresee", "make")]
    assert prepare.asked == [("foresee", key) for key in first] + [("make", key) for key in first]
    assert second == first
    assert unit.batch["foreseen"] == [True] * BATCH


def test_what_takes_the_place_of_another_is_made_in_its_turn(shards):
    prepare = Looking()
    stream = Stream("one", shards("a", 23, broken=[3, 9]), 0)
    unit = prepare_at(TaskData(stream, prepare, 23), range(23), True)
    assert {row.key for row in unit.rejected} >= {"a-00003", "a-00009"}
    assert unit.batch["foreseen"].count(False) == 2
    assert len([what for what, _ in prepare.asked if what == "foresee"]) == 23


def test_each_side_looks_ahead_that_can(shards):
    sides = Sides(a=Looking(), b=Looking(), c=lambda sample, rng, training: (0, False))
    sides.sides["c"].collate = Looking().collate
    unit = prepare_at(TaskData(Stream("one", shards("a", 23), 0), sides, BATCH), range(BATCH), True)
    assert unit.batch["a"]["foreseen"] == unit.batch["b"]["foreseen"] == [True] * BATCH
    assert torch.equal(unit.batch["a"]["lengths"], unit.batch["b"]["lengths"])


@pytest.mark.parametrize("number", [0, 11, 22])
def test_a_sample_with_which_a_worker_dies_is_named(shards, number):
    key = f"a-{number:05d}"
    task = TaskData(Stream("one", shards("a", 23), 0), Looking(dies_at=key), 23)
    with pytest.raises(RunError, match=rf"ended with code 3; the last it did: it prepares sample '{key}'"):
        list(StepLoader({"one": task}, 0, 1, workers=1))


def test_a_sample_with_something_ready_is_the_same_sample(shards):
    stream = Stream("one", shards("a", 23), 0)
    one, other = (stream.read(place) for place in stream.locate(np.array([4, 4])))
    one.ready["x"] = 1
    assert one == other
    assert "ready" not in repr(one)
    assert not other.ready
