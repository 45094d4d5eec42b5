import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.order.mixture import BLOCK, Mixture

weights = st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=6)


@given(weights=weights, seed=st.integers(0, 2**63 - 1), first=st.integers(0, 2000))
@settings(max_examples=60)
def test_each_sources_positions_follow_without_gap_or_repeat(weights, seed, first):
    mixture = Mixture(weights, seed)
    blocks = 3
    sources, inner = mixture(np.arange(first * BLOCK, (first + blocks) * BLOCK))
    for source in range(len(weights)):
        own = inner[sources == source]
        assert (np.diff(own) == 1).all()
        share = weights[source] / sum(weights)
        # At the end of any block a source is within one sample of its share for each source dealt before it.
        if len(own):
            assert abs(own[0] - share * first * BLOCK) <= len(weights)
        assert abs(len(own) - share * blocks * BLOCK) <= 2 * len(weights)


def test_proportions_are_exact_where_they_are_whole():
    mixture = Mixture([0.1, 0.2, 0.7], 3)
    sources, inner = mixture(np.arange(10 * BLOCK))
    assert np.bincount(sources).tolist() == [BLOCK, 2 * BLOCK, 7 * BLOCK]
    assert [inner[sources == s].max() + 1 for s in range(3)] == [BLOCK, 2 * BLOCK, 7 * BLOCK]


def test_a_source_of_less_than_one_sample_a_block_is_still_drawn():
    mixture = Mixture([1.0, 0.0003, 1.0], 3)
    sources, inner = mixture(np.arange(40 * BLOCK))
    share = 0.0003 / 2.0003 * 40 * BLOCK
    assert abs((sources == 1).sum() - share) <= 1
    assert inner[sources == 1].tolist() == list(range((sources == 1).sum()))


@given(weights=weights, positions=st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
@settings(max_examples=40)
def test_any_query_gives_the_same_answer(weights, positions):
    mixture = Mixture(weights, 1)
    together = mixture(np.array(positions))
    for number, position in enumerate(positions):
        alone = mixture(np.array([position]))
        assert [a[0] for a in alone] == [t[number] for t in together]


def test_sources_are_mixed_within_a_block_and_other_in_the_next():
    sources, _ = Mixture([1, 1], 0)(np.arange(2 * BLOCK))
    runs = (np.diff(sources) != 0).sum()
    assert 800 < runs < 1250
    assert (sources[:BLOCK] != sources[BLOCK:]).mean() > 0.4


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [-1.0], [float("nan")], [float("inf"), 1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match="above 0"):
        Mixture(weights, 0)
