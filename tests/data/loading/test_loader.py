import copy

import numpy as np
import pytest
import torch

from data.errors import InputError
from data.loading.loader import StepLoader, TaskData, prepare_at
from data.seeds import Randomness, generator
from data.stream import Place, Stream
from modalities.text.masked_lm import MaskedText

BATCH = 8


@pytest.fixture
def tasks(shards, tokenizer_path):
    """Two tasks over 23 and 14 samples in several shards; ``bad`` numbers of the first are not UTF-8."""

    def make(position=0, micro=None, bad=(), seed=0):
        a, b = shards("a", 23, broken=bad), shards("b", 14)
        prepare = MaskedText(tokenizer_path, max_tokens=10)
        return {
            "one": TaskData(Stream("one", a, seed), prepare, BATCH, micro, position),
            "two": TaskData(Stream("two", {"a": a, "b": b}, seed), prepare, 4, micro, position // 2),
        }

    return make


def ids(loader):
    return [identities(loader, batch) for batch in loader]


def identities(loader, batch):
    """Task -> (shard, key) of each sample."""
    found = {}
    for task, places in batch.places.items():
        stream = loader.units.tasks[task].stream
        found[task] = [stream.identity(Place(source, 0, number)) for source, number in places.tolist()]
    return found


def seen(batches):
    return [{task: places.tolist() for task, places in batch.places.items()} for batch in batches]


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return a.lengths == b.lengths if hasattr(a, "lengths") else a == b


def test_same_samples_and_tensors_for_any_number_of_workers(tasks):
    reference = list(StepLoader(tasks(micro=3), 0, 5))
    assert [batch.step for batch in reference] == list(range(5))
    assert all(len(batch.places["one"]) == BATCH and len(batch.places["two"]) == 4 for batch in reference)
    for workers in (1, 2, 4):
        found = list(StepLoader(tasks(micro=3), 0, 5, workers=workers))
        assert seen(found) == seen(reference), workers
        assert same([batch.tasks for batch in found], [batch.tasks for batch in reference]), workers


def test_ranks_share_the_batch_in_order(tasks):
    reference = ids(StepLoader(tasks(), 0, 6))
    for world_size in (2, 4):
        shares = [ids(StepLoader(tasks(), 0, 6, rank, world_size)) for rank in range(world_size)]
        for step in range(6):
            for task in ("one", "two"):
                assert [one for share in shares for one in share[step][task]] == reference[step][task]


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 8, 100])
def test_micro_batches_divide_the_same_samples(tasks, micro):
    reference = list(StepLoader(tasks(), 0, 4))
    for found, whole in zip(StepLoader(tasks(micro=micro), 0, 4), reference, strict=True):
        assert seen([found]) == seen([whole])
        sizes = [batch["size"] for batch in found.tasks["one"]]
        assert sum(sizes) == BATCH
        assert max(sizes) == min(micro, BATCH)
        tokens = torch.cat([batch["text"]["tokens"] for batch in found.tasks["one"]])
        assert torch.equal(tokens, whole.tasks["one"][0]["text"]["tokens"])


def test_starting_at_a_step_is_skipping_to_it(tasks):
    whole = list(StepLoader(tasks(), 0, 9))
    for step in (1, 4, 8):
        rest = list(StepLoader(tasks(position=step * BATCH), step, 9))
        assert [batch.step for batch in rest] == list(range(step, 9))
        assert seen(rest) == seen(whole[step:])
        assert same([batch.tasks for batch in rest], [batch.tasks for batch in whole[step:]])


def test_every_sample_once_an_epoch_over_batches_that_straddle_epochs(tasks):
    keys = [key for step in ids(StepLoader(tasks(), 0, 23)) for _, key in step["one"]]
    for begin in range(0, len(keys), 23):
        assert len(set(keys[begin : begin + 23])) == 23
    assert keys[:23] != keys[23:46]


def test_bad_sample_is_replaced_by_the_same_one_on_every_topology(tasks):
    bad = (3, 4, 11)
    keys = {f"a-{n:05d}" for n in bad}
    loader = StepLoader(tasks(bad=bad), 0, 6)
    reference = list(loader)
    sound = list(StepLoader(tasks(), 0, 6))
    rejected = [r for batch in reference for r in batch.rejected if r.task == "one"]
    assert {r.key for r in rejected} == keys
    assert all(r.reason == "member txt is not UTF-8 (byte 0)" and r.shard.startswith("a-0") for r in rejected)
    for found, whole in zip(reference, sound, strict=True):
        read, wanted = identities(loader, found)["one"], identities(loader, whole)["one"]
        for (_, key), (_, meant) in zip(read, wanted, strict=True):
            assert key not in keys
            assert key == meant or meant in keys
    for workers in (0, 2):
        for world_size in (1, 2, 4):
            shares = [
                list(StepLoader(tasks(bad=bad, micro=1), 0, 6, r, world_size, workers)) for r in range(world_size)
            ]
            for step, whole in enumerate(reference):
                dealt = [row for share in shares for row in share[step].places["one"].tolist()]
                assert dealt == whole.places["one"].tolist()
                assert sorted(r for share in shares for r in share[step].rejected) == sorted(whole.rejected)


@pytest.mark.parametrize("workers", [0, 2])
def test_eight_bad_samples_in_a_row_end_the_run(tasks, workers):
    loader = StepLoader(tasks(bad=range(23)), 0, 3, workers=workers)
    with pytest.raises(
        InputError, match=r"task 'one': 8 samples in a row.*'a-\d+' in 'a-\d+\.tar': member txt is not UTF-8"
    ):
        list(loader)


def test_a_batch_that_cannot_be_dealt_lists_its_divisors(tasks):
    with pytest.raises(InputError, match=r"batch_size=8 of task 'one' cannot .* 3 devices; .*: 1, 2, 4, 8$"):
        StepLoader(tasks(), 0, 1, world_size=3)


def test_numbers_out_of_range_are_refused(tasks):
    with pytest.raises(InputError, match="micro_batch_size=-2 of task 'one'"):
        StepLoader(tasks(micro=-2), 0, 1)
    with pytest.raises(InputError, match="micro_batch_size=0"):
        StepLoader(tasks(micro=0), 0, 1)
    with pytest.raises(InputError, match="workers=-1"):
        StepLoader(tasks(), 0, 1, workers=-1)


def test_masks_belong_to_the_position_and_change_with_the_epoch(tasks):
    data = tasks()["one"]
    stream = data.stream
    first = next(p for p in range(23) if stream.identity(stream.locate([p])[0])[1] == "a-00005")
    later = next(p for p in range(23, 46) if stream.identity(stream.locate([p])[0])[1] == "a-00005")
    units = [prepare_at(data, [p], training=True) for p in (first, first, later)]
    batches = [unit.batch["text"] for unit in units]
    assert same(batches[0], batches[1])
    assert not torch.equal(batches[0]["tokens"], batches[2]["tokens"]) or not torch.equal(
        batches[0]["masked"], batches[2]["masked"]
    )


def test_rekeying_one_generator_draws_what_a_new_one_does():
    randomness = Randomness(3, "task")
    for position in (0, 5, 10**12):
        drawn, meant = randomness(position), generator(3, "task", position)
        drawn.integers(5, dtype=np.uint32)  # leaves half of a 64-bit number over
        meant.integers(5, dtype=np.uint32)
        assert drawn.random(7).tolist() == meant.random(7).tolist()
        assert (
            drawn.integers(2**31, size=3, dtype=np.uint32).tolist()
            == meant.integers(2**31, size=3, dtype=np.uint32).tolist()
        )
    with pytest.raises(TypeError):
        copy.deepcopy(randomness)
