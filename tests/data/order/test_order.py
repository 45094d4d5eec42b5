import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.order.order import Order, Ordering
from data.order.permutation import combine, permute, permute_each
from data.order.shardorder import ShardOrder

sizes = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 255, 256, 257, 1000, 1023, 1025, 4097]))
seeds = st.integers(0, 2**63 - 1)


@given(n=sizes, key=seeds)
def test_permutation_is_a_bijection(n, key):
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


@given(n=sizes, seed=seeds, epoch=st.integers(0, 10**9))
def test_every_sample_once_in_every_epoch(n, seed, epoch):
    epochs, samples = Order([n], seed)(np.arange(epoch * n, (epoch + 1) * n))
    assert (epochs == epoch).all()
    assert sorted(samples.tolist()) == list(range(n))


@given(n=sizes, seed=seeds, batch=st.integers(1, 37), start=st.integers(0, 5000))
@settings(max_examples=50)
def test_batching_and_seeking_change_nothing(n, seed, batch, start):
    order = Order([n], seed)
    whole = order(np.arange(start + 200))[1]
    begins = range(start, start + 200, batch)
    seeked = np.concatenate([order(np.arange(b, min(b + batch, start + 200)))[1] for b in begins])
    assert (whole[start:] == seeked).all()
    assert (order(np.array([start + 199, start]))[1] == whole[[start + 199, start]]).all()


def test_once_an_epoch_where_the_epoch_is_no_multiple_of_the_batch():
    order, batch = Order([23], 5), 8
    seen = np.concatenate([order(np.arange(step * batch, (step + 1) * batch))[1] for step in range(23)])
    assert (np.bincount(seen, minlength=23) == 8).all()
    for epoch in range(8):
        assert len(set(seen[epoch * 23 : (epoch + 1) * 23])) == 23


def test_epochs_and_seeds_differ():
    n = 200
    epochs = Order([n], 1)(np.arange(50 * n))[1].reshape(50, n)
    other = Order([n], 2)(np.arange(n))[1]
    distinct = {tuple(row) for row in [*epochs.tolist(), other.tolist(), list(range(n))]}
    assert len(distinct) == 52
    # Of two independent permutations about one place agrees.
    agreeing = (epochs[:-1] == epochs[1:]).sum(1)
    assert agreeing.mean() < 2


@pytest.mark.parametrize("n", [3, 5, 24])
def test_every_place_gets_every_sample_equally_often(n):
    keys = 1500
    table = np.stack([permute(np.arange(n), n, key) for key in range(keys)])
    counts = np.stack([np.bincount(table[:, place], minlength=n) for place in range(n)])
    expected = keys / n
    chi = ((counts - expected) ** 2 / expected).sum() / (n - 1) ** 2
    assert chi < 1 + 5 * (2 / (n - 1) ** 2) ** 0.5


def test_unshuffled_order_is_that_of_the_shards():
    epochs, samples = Order([3], 9, None)(np.arange(7))
    assert samples.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert epochs.tolist() == [0, 0, 0, 1, 1, 1, 2]


counts = st.lists(st.integers(0, 9), min_size=3, max_size=60).map(lambda c: [*c, *[9] * (max(0, 72 - sum(c)) // 9)])
orderings = st.builds(Ordering, window=st.integers(1, 20), streams=st.sampled_from([1, 2, 4, 8]))


@given(n=st.lists(st.integers(1, 5000), min_size=1, max_size=40), key=seeds)
def test_a_permutation_for_each_element_is_one_bijection_a_key(n, key):
    sizes = np.array(n)
    keys = combine(np.full(len(sizes), key, np.uint64), np.arange(len(sizes)))
    for size, own in zip(sizes[:3].tolist(), keys[:3], strict=False):
        found = permute_each(np.arange(size), np.full(size, size), np.full(size, own))
        assert sorted(found.tolist()) == list(range(size))
    # Asked together, each element gets what it gets alone.
    index = sizes // 2
    together = permute_each(index, sizes, keys)
    alone = [permute_each(index[i : i + 1], sizes[i : i + 1], keys[i : i + 1])[0] for i in range(len(n))]
    assert together.tolist() == alone


@given(counts=counts, ordering=orderings, seed=seeds, epoch=st.integers(0, 10**6))
def test_windows_too_give_every_sample_once_an_epoch(counts, ordering, seed, epoch):
    order = Order(counts, seed, ordering)
    epochs, samples = order(np.arange(epoch * order.size, (epoch + 1) * order.size))
    assert (epochs == epoch).all()
    assert sorted(samples.tolist()) == list(range(order.size))


@given(counts=counts, ordering=orderings, seed=seeds, batch=st.integers(1, 37), start=st.integers(0, 5000))
@settings(max_examples=50)
def test_batching_and_seeking_change_nothing_in_windows(counts, ordering, seed, batch, start):
    order = Order(counts, seed, ordering)
    whole = order(np.arange(start, start + 200))[1]
    begins = range(start, start + 200, batch)
    fresh = [Order(counts, seed, ordering)(np.arange(b, min(b + batch, start + 200)))[1] for b in begins]
    assert (whole == np.concatenate(fresh)).all()


@pytest.mark.parametrize("shards", [5000, 9001])
def test_many_shards_are_grouped_and_each_sample_still_comes_once(shards):
    counts = np.random.default_rng(0).integers(0, 4, shards)
    order = ShardOrder(counts, 7)
    assert order.width > 1
    for epoch in (0, 3):
        owners, samples = order.locate(epoch, np.arange(len(order)))
        assert sorted(samples.tolist()) == list(range(len(order)))
        assert (np.searchsorted(order.starts, samples, side="right") - 1 == owners).all()
        # A shard's samples stand together, so that it is read for one stretch of the epoch only.
        assert len(np.flatnonzero(np.diff(owners))) == (counts > 0).sum() - 1
    first, second = (order.locate(epoch, np.arange(len(order)))[0] for epoch in (0, 1))
    assert (first == second).mean() < 0.01


def stretches(order, counts, batch, hosts):
    """[(first step, last step) of each shard] for each host, where each takes its share of every global batch."""
    ends, found = np.cumsum(counts), [{} for _ in range(hosts)]
    for step, begin in enumerate(range(0, order.size - batch + 1, batch)):
        positions = np.arange(begin, begin + batch)
        positions = positions[np.argsort(order.part(positions), kind="stable")]
        shards = np.searchsorted(ends, order(positions)[1], side="right")
        for host, share in enumerate(np.split(shards, hosts)):
            for shard in share.tolist():
                found[host].setdefault(shard, [step, step])[1] = step
    return found


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts_need_disjoint_shards_and_each_for_one_stretch_of_the_epoch(hosts):
    counts = np.random.default_rng(1).integers(40, 60, 512)
    order = Order(counts, 3, Ordering(window=64, streams=16))
    found = stretches(order, counts, 256, hosts)
    # A part of the epoch ends inside a shard: that one shard is needed on both sides of the cut.
    assert sum(map(len, found)) <= 512 + 16
    steps = order.size // 256
    # A window is an eighth of the epoch and a shard may lie across two, or across the end of a part and its beginning.
    long = [shard for host in found for shard, (first, last) in host.items() if last - first > 0.35 * steps]
    assert len(long) <= 16


def test_windows_mix_many_shards_in_each_batch():
    counts = [50] * 512
    order = Order(counts, 3, Ordering(window=64, streams=16))
    for begin, least in ((0, 35), (5000, 50), (20000, 50)):  # the parts' first windows are short, of staggered lengths
        shards = order(np.arange(begin, begin + 256))[1] // 50
        assert len(set(shards.tolist())) > least


@given(begin=st.integers(0, 10**6), count=st.integers(1, 300), hosts=st.sampled_from([1, 2, 4, 8]))
def test_any_run_of_positions_takes_equally_from_the_parts_of_all_hosts(begin, count, hosts):
    order = Order([1000] * 1000, 3, Ordering(window=64, streams=16))
    owners = np.floor(order.part(np.arange(begin, begin + count)) * hosts)
    dealt = np.bincount(owners.astype(int), minlength=hosts)
    seam = begin // order.size != (begin + count - 1) // order.size
    assert dealt.max() - dealt.min() <= 1 + seam


@given(counts=counts, ordering=orderings, seed=seeds, position=st.integers(0, 10**5))
def test_needed_shards_are_those_of_what_follows(counts, ordering, seed, position):
    order, ends = Order(counts, seed, ordering), np.cumsum(counts)
    here = np.arange(position, position + 16)
    needed = order.needed(here[here // order.size == here[-1] // order.size])
    following = here[here // order.size == here[-1] // order.size]
    shards = np.searchsorted(ends, order(following)[1], side="right")
    assert set(shards.tolist()) <= set(needed)
    assert len(needed) == len(set(needed))


def test_orderings_out_of_range():
    with pytest.raises(InputError, match=r"order\.window=0 is not 1 shard or more"):
        Ordering(window=0)
    with pytest.raises(InputError, match=r"order\.streams=6 is not a power of two"):
        Ordering(streams=6)


def test_without_shuffling_the_shards_needed_are_those_that_are_still_to_be_read():
    order = Order([3, 4, 5], 0, None)
    assert [order.needed(np.array(positions)) for positions in ([0, 1], [2, 3], [3, 6], [7, 11], [12])] == [
        [0, 1, 2], [0, 1, 2], [1, 2], [2], [0, 1, 2],
    ]  # fmt: skip
