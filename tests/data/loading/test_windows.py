"""Steps over many shards, shuffled in windows: the same for any ranks, workers, micro-batches and starts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.order.order import Ordering
from data.stream import Place, Stream

BATCH, STEPS = 8, 40


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A mixture of two sources of 20 and 12 shards, 5 samples each."""
    from data.write import write

    folder = tmp_path_factory.mktemp("shards")
    for name, shards in (("a", 20), ("b", 12)):
        for shard in range(shards):
            samples = ((f"{shard:02d}-{n}", {"txt": f"{name} {shard} {n}".encode()}) for n in range(5))
            write(samples, folder, f"{name}{shard:02d}", 10**6)
    return {n: {"pattern": str(folder / f"{n}[0-9]*.tar"), "weight": w} for n, w in (("a", 2.0), ("b", 1.0))}


def loader(sources, start=0, rank=0, world_size=1, workers=0, micro=None):
    stream = Stream("t", sources, 3, Ordering(window=4, streams=4))
    data = TaskData(stream, RawPrepare(("txt",)), BATCH, micro, start * BATCH)
    return StepLoader({"t": data}, start, STEPS, rank, world_size, workers)


def places(batches):
    return [batch.places["t"].tolist() for batch in batches]


@pytest.fixture(scope="module")
def reference(sources):
    return places(loader(sources))


def test_ranks_get_their_share_of_the_same_global_batches(sources, reference):
    for world_size in (2, 4, 8):
        shares = [places(loader(sources, 0, rank, world_size)) for rank in range(world_size)]
        for step in range(STEPS):
            assert [one for share in shares for one in share[step]] == reference[step], world_size


@pytest.mark.parametrize(("workers", "micro"), [(0, 3), (1, None), (2, 2)])
def test_workers_and_micro_batches_change_nothing(sources, reference, workers, micro):
    assert places(loader(sources, workers=workers, micro=micro)) == reference


def test_a_start_anywhere_finds_what_would_have_come(sources, reference):
    for start in (1, 13, 39):
        assert places(loader(sources, start)) == reference[start:]


@given(begin=st.integers(0, 10**9), weight=st.sampled_from([0.3, 1.0, 7.0]))
def test_no_sample_comes_again_before_its_epoch_is_over(sources, begin, weight):
    spec = sources | {"a": {**sources["a"], "weight": weight}}
    stream = Stream("t", spec, 3, Ordering(window=4, streams=4))
    seen: dict[tuple[int, int], list[int]] = {}
    for place in stream.locate(np.arange(begin, begin + 400)):
        seen.setdefault((place.source, place.epoch), []).append(place.number)
    for (source, epoch), numbers in seen.items():
        assert len(set(numbers)) == len(numbers)
        whole = any((source, other) in seen for other in (epoch - 1,)) and (source, epoch + 1) in seen
        if whole:  # an epoch that began and ended here
            assert sorted(numbers) == list(range(len(stream.sources[source])))


def test_each_rank_reads_few_shards_at_a_time(sources):
    stream = Stream("t", sources["a"]["pattern"], 3, Ordering(window=4, streams=4))
    for half in (slice(0, 4), slice(4, 8)):
        shards = set()
        for step in range(5):
            dealt = stream.arrange(np.arange(step * BATCH, (step + 1) * BATCH))[half]
            shards |= {stream.identity(Place(p.source, 0, p.number))[0] for p in stream.locate(dealt)}
        assert len(shards) <= 9  # of 20: two parts of the epoch, windows of one shard and what lies across their ends
