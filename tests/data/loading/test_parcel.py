"""Units that are handed on together are the units that are handed on alone."""

import gc
import time

import numpy as np
import pytest
import torch

from data.errors import InputError
from data.loading import parcel, transport, workers
from data.loading.loader import StepLoader, TaskData
from data.loading.parcel import Parcel
from data.loading.raw import RawPrepare
from data.loading.transport import Slab, copied
from data.loading.unit import Unit
from data.stream import Stream
from modalities.text.masked_lm import MaskedText

STEPS = 12


@pytest.fixture
def parcels(monkeypatch):
    """How many units came together, each time; nothing but their number closes a parcel."""
    sizes, receive = [], workers.Worker._receive

    def counted(self, pinned):
        units = receive(self, pinned)
        sizes.append(len(units))
        return units

    monkeypatch.setattr(workers.Worker, "_receive", counted)
    monkeypatch.setattr(parcel, "LONG_S", 60.0)
    return sizes


def loader(source, prepare, workers=0, micro=3):
    return StepLoader({"a": TaskData(Stream("a", source, 0), prepare, 6, micro)}, 0, STEPS, workers=workers)


def members(batch):
    blocks = batch.tasks["a"]
    return [[bytes(b["bytes"][begin:end].numpy()) for sample in b["edges"] for begin, end in sample] for b in blocks]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("large", [1, 5000, 1 << 23])
def test_blocks_and_their_replacements(shards, parcels, monkeypatch, count, large):
    monkeypatch.setattr(parcel, "MOST", large)
    monkeypatch.setattr(parcel, "LEAST", large)
    source = shards("a", 23)
    with open(source.replace("*", "000000"), "r+b") as file:  # the size in a header: not what the index says
        list(loader(source, RawPrepare(["txt"])))
        file.seek(124)
        file.write(b"77777777777")
    alone = [(members(batch), batch.places["a"].tolist()) for batch in loader(source, RawPrepare(["txt"]))]
    together = [(members(batch), batch.places["a"].tolist()) for batch in loader(source, RawPrepare(["txt"]), count)]
    assert together == alone
    assert sum(parcels) == 2 * STEPS
    assert max(parcels) == {1: 1, 5000: max(parcels), 1 << 23: 2 * STEPS // count}[large]
    assert large != 5000 or 1 < max(parcels) < 2 * STEPS // count


@pytest.mark.parametrize("keep", [False, True])
def test_samples_that_are_prepared(shards, tokenizer_path, parcels, keep):
    source, prepare = shards("a", 23, broken=(3, 11)), MaskedText(tokenizer_path, max_tokens=10)
    expected = list(loader(source, prepare))
    found = loader(source, prepare, 2)
    batches = list(found) if keep else found
    for batch, reference in zip(batches, expected, strict=True):
        for mine, theirs in zip(batch.tasks["a"], reference.tasks["a"], strict=True):
            assert torch.equal(mine["text"]["tokens"], theirs["text"]["tokens"])
        assert batch.rejected == reference.rejected
    assert max(parcels) == STEPS


def test_what_takes_long_travels_alone(shards, tokenizer_path, parcels, monkeypatch):
    monkeypatch.setattr(parcel, "LONG_S", 0.0)
    assert len(list(loader(shards("a", 23), MaskedText(tokenizer_path, max_tokens=10), 2))) == STEPS
    assert set(parcels) == {1}


def test_a_failure_is_handed_on_at_once_and_after_what_was_made_before(parcels):
    slab = Slab()
    one = Parcel(slab, 1 << 20)
    one.add(Unit(0, "a", {"x": torch.ones(3)}, np.zeros((1, 2), dtype=np.int64)))
    assert not one.full
    one.add(Unit(1, "a", {}, np.zeros((0, 2), dtype=np.int64), failure=InputError("bad")))
    assert one.full
    packed = one.packed()
    first, second = copied(packed.described, packed.spans, slab.memory(packed.size), pinned=False)
    assert first.batch["x"].tolist() == [1, 1, 1]
    assert str(second.failure) == "bad"


def test_each_unit_of_a_parcel_has_memory_of_its_own():
    slab = Slab()
    found = Parcel(slab, 1 << 20)
    for number in range(5):
        size = 1000 * number + 1
        memory = found.memory(size // 2)  # asked again for more
        memory[: size // 2] = number
        memory = found.memory(size)
        memory[size // 2 : size] = number
        found.add(Unit(number, "a", {"x": torch.from_numpy(memory[:size])}, np.full((2, 2), number)))
    packed = found.packed()
    assert [len(part) for part in packed.parts if len(part)] == [32] * 5  # the large ones lie there already
    units = copied(packed.described, packed.spans, slab.memory(packed.size), pinned=False)
    for number, unit in enumerate(units):
        assert len(unit.batch["x"]) == 1000 * number + 1
        assert set(unit.batch["x"].tolist()) == {number}
        assert set(unit.places.flatten().tolist()) == {number}


@pytest.mark.parametrize(
    "batch",
    [
        {"x": torch.zeros(1000)},
        {"x": {"y": np.zeros(4000, dtype=np.uint8)}},
        {"x": [bytes(3000), bytes(1000)]},
        {"x": (torch.zeros(500), torch.zeros(500))},
        {"x": ["a" * 4000]},
    ],
)
@pytest.mark.usefixtures("parcels")
def test_what_lies_elsewhere_counts_as_well(batch):
    one = Parcel(Slab(), 4000)
    one.add(Unit(0, "a", {"numbers": list(range(5000))}, np.zeros((1, 2), dtype=np.int64)))
    assert not one.full
    one.add(Unit(0, "a", batch, np.zeros((1, 2), dtype=np.int64)))
    assert one.full


class Sleeps(RawPrepare):
    """Takes long for every batch."""

    def from_block(self, block):
        time.sleep(0.4)
        return super().from_block(block)


def test_what_is_ready_does_not_wait_for_a_task_that_takes_long(shards, parcels, monkeypatch):
    monkeypatch.setattr(parcel, "LONG_S", 0.35)
    source = shards("a", 23)
    tasks = {
        name: TaskData(Stream(name, source, 0), prepare(["txt"]), 6, None)
        for name, prepare in (("quick", RawPrepare), ("slow", Sleeps))
    }
    assert len(list(StepLoader(tasks, 0, 5, workers=1))) == 5
    assert parcels[0] == 2  # nobody knew
    assert set(parcels[1:]) == {1}


def test_a_loader_that_is_closed_early_lets_go_of_its_memory(shards, parcels):
    found = loader(shards("a", 23), RawPrepare(["txt"]), 2)
    batch = next(iter(found))
    assert max(parcels) > 1
    found.close()
    assert transport._borrowed
    del batch
    gc.collect()
    assert not transport._borrowed
