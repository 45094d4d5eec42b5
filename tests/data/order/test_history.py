import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from data.order.history import Part, Segment, go_on, same, segment_of
from data.order.mixture import Mixture, weights_by_size
from data.order.order import Ordering
from data.stream import Stream

ORDER = (0, 256, 64)


def segment(position=0, order=ORDER, **weights):
    return Segment(position, order, {name: Part(weight, f"digest of {name}") for name, weight in weights.items()})


@given(
    position=st.integers(0, 10**6),
    more=st.integers(0, 5000),
    weights=st.lists(st.floats(0.01, 5), min_size=2, max_size=4),
    others=st.lists(st.floats(0.01, 5), min_size=2, max_size=4),
)
def test_sources_go_on_where_they_stand(position, more, weights, others):
    names = "abcd"
    past = segment(**dict(zip(names, weights, strict=False)))
    now = segment(**dict(zip(names, others, strict=False)))
    following, _ = go_on("t", past, now, position)
    counts = past.mixture("t").counts(position)
    for name, count in zip(past.drawn, counts, strict=True):
        assert following.parts[name].begin == following.parts[name].seen == count
    # Over both segments a source's positions are 0, 1, 2, ...: nothing is repeated, nothing left out.
    sources, inner = past.mixture("t")(np.arange(max(0, position - 3000), position))
    after, further = following.mixture("t")(np.arange(more))
    for name in set(past.drawn) & set(following.drawn):
        own = inner[sources == past.drawn.index(name)].tolist()
        own += (further[after == following.drawn.index(name)] + following.parts[name].begin).tolist()
        assert own == list(range(own[0], own[0] + len(own))) if own else True


def test_what_changes_is_said():
    past = segment(a=1.0, b=1.0)
    now = Segment(0, ORDER, {"b": Part(3.0, "digest of b"), "c": Part(1.0, "new")})
    following, lines = go_on("t", past, now, 2048)
    assert lines == [
        "source 'a' is drawn from no more, after 1024 samples",
        "source 'b' goes on after 1024 samples, weight 3 instead of 1",
        "source 'c' is new, with weight 1",
    ]
    assert following.drawn == ["b", "c"]
    back, lines = go_on("t", following, segment(a=1.0, b=3.0), 4096)
    assert back.parts["a"].begin == back.parts["a"].seen == 1024  # it goes on where it was left
    assert "source 'a' goes on after 1024 samples, weight 1 instead of 0" in lines


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Segment(0, ORDER, {"a": Part(1.0, "grown")}), "has other shards"),
        (segment(order=(0, 16, 64), a=1.0), "has other order settings"),
    ],
)
def test_other_shards_or_another_shuffle_begin_a_new_epoch(now, why):
    following, lines = go_on("t", segment(a=1.0), now, 700)
    assert lines == [f"source 'a' {why}: it begins a new epoch after 700 samples"]
    assert (following.parts["a"].begin, following.parts["a"].generation, following.parts["a"].seen) == (0, 1, 700)


def test_another_shuffle_while_a_source_is_away_begins_a_new_epoch_of_it(shards):
    a, b = shards("a", 60), shards("b", 20)
    both, alone = {"a": a, "b": b}, {"a": a}
    first = Stream("t", both, 0, Ordering(256, 64))
    without = Stream("t", alone, 0, Ordering(256, 64))
    without.adopt([s.as_json() for s in first.segments], 24)
    shuffled = Stream("t", alone, 0, Ordering(1, 64))
    shuffled.adopt([s.as_json() for s in without.segments], 30)
    back = Stream("t", both, 0, Ordering(1, 64))
    lines = back.adopt([s.as_json() for s in shuffled.segments], 40)
    seen = back.segments[-1].parts["t.b"].seen
    assert 0 < seen < 20
    assert f"source 't.b' begins a new epoch after {seen} samples, weight 1 instead of 0" in lines
    assert (back.segments[-1].parts["t.b"].begin, back.segments[-1].parts["t.b"].generation) == (0, 1)
    own = [key for key in keys(back, 40, 100) if key.startswith("b-")][:20]
    assert len(set(own)) == 20  # each once


def test_the_same_is_the_same_in_any_unit():
    assert same(segment(a=1.0, b=2.0), segment(a=2.0, b=4.0))
    assert not same(segment(a=1.0, b=2.0), segment(a=2.0, b=2.0))
    assert not same(segment(a=1.0), segment(a=1.0, b=1.0))
    assert not same(segment(a=1.0), segment(order=(1, 256, 64), a=1.0))
    assert segment_of(json.loads(json.dumps(segment(5, a=1.0).as_json()))) == segment(5, a=1.0)


def keys(stream, begin, end):
    return [stream.identity(place)[1] for place in stream.locate(np.arange(begin, end))]


def test_a_stream_continued_with_other_weights_repeats_nothing(shards):
    a, b = shards("a", 300), shards("b", 200)
    before = Stream("t", {"a": {"pattern": a, "weight": 3}, "b": b}, 0)
    after = Stream("t", {"a": a, "b": {"pattern": b, "weight": 4}}, 0)
    lines = after.adopt([s.as_json() for s in before.segments], 128)
    counts = dict(zip("ab", before.segments[0].mixture("t").counts(128), strict=True))
    assert sum(counts.values()) == 128
    assert lines == [
        f"source 't.a' goes on after {counts['a']} samples, weight 1 instead of 3",
        f"source 't.b' goes on after {counts['b']} samples, weight 4 instead of 1",
    ]
    assert keys(after, 0, 128) == keys(before, 0, 128)  # what was seen before is still known
    assert keys(after, 128, 300) != keys(before, 128, 300)
    seen = keys(after, 0, 300)
    assert len(set(seen)) == len(seen)
    assert {name: count for name, (count, _) in after.progress(128).items()} == {f"t.{n}": c for n, c in counts.items()}
    # The next start with the same config changes nothing any more, and finds the same samples.
    again = Stream("t", {"a": a, "b": {"pattern": b, "weight": 4}}, 0)
    assert again.adopt([s.as_json() for s in after.segments], 200) == []
    assert keys(again, 0, 300) == seen


def test_a_grown_source_begins_a_new_epoch_at_the_recorded_position(shards):
    before = Stream("t", shards("a", 40), 0)
    after = Stream("t", [shards("a", 40), shards("more", 10)], 0)
    assert after.adopt([s.as_json() for s in before.segments], 25) == [
        "source 't' has other shards: it begins a new epoch after 25 samples"
    ]
    assert sorted(keys(after, 25, 75)) == sorted(keys(Stream("t", [shards("a", 40), shards("more", 10)], 0), 0, 50))
    assert after.progress(75) == {"t": (75, 1.0)}
    with pytest.raises(InputError, match=r"source 't' has other shards now; what task 't' drew .* positions 0 and 25"):
        after.locate(np.arange(20))


def test_a_change_before_anything_was_drawn_leaves_no_trace(shards):
    a, b = shards("a", 30), shards("b", 20)
    before, after = Stream("t", {"a": a, "b": b}, 0), Stream("t", {"a": a}, 0)
    after.adopt([s.as_json() for s in before.segments], 0)
    assert [s.drawn for s in after.segments] == [["t.a"]]
    assert keys(after, 0, 30) == keys(Stream("t", {"a": a}, 0), 0, 30)


def test_weights_by_size():
    assert weights_by_size([1, 2], [10, 1000], None) == [1, 2]
    assert weights_by_size([1, 2], [10, 1000], 0) == [1, 2]
    assert weights_by_size([1, 1], [10, 1000], 1) == [0.01, 1]
    small, large = weights_by_size([1, 1], [10, 1000], 0.3)
    assert small / (small + large) == pytest.approx(10**0.3 / (10**0.3 + 1000**0.3), rel=1e-5)
    for alpha in (-0.1, 1.1):
        with pytest.raises(InputError, match=f"alpha={alpha} is not between 0"):
            weights_by_size([1], [1], alpha)


@given(weights=st.lists(st.floats(0.01, 5), min_size=1, max_size=4), position=st.integers(0, 10**7))
def test_counts_are_those_of_the_positions_before(weights, position):
    mixture = Mixture(weights, 3)
    counts = mixture.counts(position)
    assert sum(counts) == position
    begin = max(0, position - 2000)
    sources, _ = mixture(np.arange(begin, position))
    between = np.array(counts) - np.array(mixture.counts(begin))
    assert np.bincount(sources, minlength=len(weights)).tolist() == between.tolist()
