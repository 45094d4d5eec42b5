import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.order import Order, permute

sizes = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 255, 256, 257, 1000, 1023, 1025, 4097]))
seeds = st.integers(0, 2**63 - 1)


@given(n=sizes, key=seeds)
def test_permutation_is_a_bijection(n, key):
    assert sorted(permute(np.arange(n), n, key).tolist()) == list(range(n))


@given(n=sizes, seed=seeds, epoch=st.integers(0, 10**9))
def test_every_sample_once_in_every_epoch(n, seed, epoch):
    epochs, samples = Order(n, seed)(np.arange(epoch * n, (epoch + 1) * n))
    assert (epochs == epoch).all()
    assert sorted(samples.tolist()) == list(range(n))


@given(n=sizes, seed=seeds, batch=st.integers(1, 37), start=st.integers(0, 5000))
@settings(max_examples=50)
def test_batching_and_seeking_change_nothing(n, seed, batch, start):
    order = Order(n, seed)
    whole = order(np.arange(start + 200))[1]
    begins = range(start, start + 200, batch)
    seeked = np.concatenate([order(np.arange(b, min(b + batch, start + 200)))[1] for b in begins])
    assert (whole[start:] == seeked).all()
    assert (order(np.array([start + 199, start]))[1] == whole[[start + 199, start]]).all()


def test_once_an_epoch_where_the_epoch_is_no_multiple_of_the_batch():
    order, batch = Order(23, 5), 8
    seen = np.concatenate([order(np.arange(step * batch, (step + 1) * batch))[1] for step in range(23)])
    assert (np.bincount(seen, minlength=23) == 8).all()
    for epoch in range(8):
        assert len(set(seen[epoch * 23 : (epoch + 1) * 23])) == 23


def test_epochs_and_seeds_differ():
    n = 200
    epochs = Order(n, 1)(np.arange(50 * n))[1].reshape(50, n)
    other = Order(n, 2)(np.arange(n))[1]
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
    epochs, samples = Order(3, 9, shuffle=False)(np.arange(7))
    assert samples.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert epochs.tolist() == [0, 0, 0, 1, 1, 1, 2]
