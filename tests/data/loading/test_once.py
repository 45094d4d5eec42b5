import os

import numpy as np
import pytest
import torch

from data.errors import RunError, SampleError
from data.files import FileStream
from data.loading.loader import TaskData
from data.loading.once import OnceLoader
from data.stream import Stream


class Lengths:
    """Text -> how long it is; its first two letters must not be ``\\xff``."""

    def __init__(self, dies=None):
        self.dies = dies

    def __call__(self, sample, rng, training):
        assert not training
        if sample.key == self.dies:
            os._exit(3)
        if sample.members["txt"].startswith(b"\xff"):
            raise SampleError("no text", "undecodable", "txt")
        return {"length": len(sample.members["txt"]), "draw": rng.random()}

    def collate(self, items):
        return {name: torch.tensor([item[name] for item in items]) for name in ("length", "draw")}


def loaded(pattern, workers, batches, dies=None):
    data = TaskData(Stream("x", pattern, 0, None), Lengths(dies), 99)
    found = []
    for step in OnceLoader(data, batches, workers):
        (batch,) = step.tasks["x"]
        numbers = step.places["x"][:, 1].tolist()
        found.append(({name: value.tolist() for name, value in batch.items()}, numbers, [r.key for r in step.rejected]))
    return found


def test_batches_are_those_asked_for_whoever_prepares_them(shards):
    pattern = shards(count=23, broken=(4, 9, 10, 11))
    batches = [range(0, 5), range(20, 23), range(9, 12), range(5, 9)]
    alone = loaded(pattern, 0, batches)
    assert alone == loaded(pattern, 2, batches) == loaded(pattern, 3, batches)
    assert [numbers for _, numbers, _ in alone] == [[0, 1, 2, 3], [20, 21, 22], [], [5, 6, 7, 8]]
    assert alone[2] == ({}, [], [f"own-{n:05d}" for n in (9, 10, 11)])
    assert len(alone[0][0]["length"]) == 4


def test_the_same_sample_in_another_batch_is_prepared_alike(shards):
    pattern = shards(count=12)
    whole = loaded(pattern, 0, [range(0, 12)])[0][0]["draw"]
    parts = loaded(pattern, 1, [range(6, 12), range(0, 6)])
    assert parts[1][0]["draw"] + parts[0][0]["draw"] == whole
    assert len(np.unique(whole)) == 12


def test_no_batches_are_no_steps(shards):
    assert loaded(shards(count=3), 2, []) == []


def test_a_worker_that_dies_is_named_with_its_sample(shards):
    with pytest.raises(RunError, match=r"loader worker .* ended with code 3.*own-00005"):
        loaded(shards(count=12), 1, [range(0, 4), range(4, 8)], dies="own-00005")


def test_so_is_a_file(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    data = TaskData(FileStream("files", [str(tmp_path)], ["txt"]), Lengths("b.txt"), 99)
    with pytest.raises(RunError, match=r"loader worker .* ended with code 3.*b\.txt"):
        list(OnceLoader(data, [range(0, 3)], 1))
