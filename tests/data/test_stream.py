import os

import numpy as np
import pytest

from data.errors import InputError, SampleError
from data.stream import Place, Stream


def test_mixture_runs_through_each_source_epoch_by_epoch(shards):
    spec = {"a": {"pattern": shards("a", 7), "weight": 1}, "b": {"pattern": shards("b", 5), "weight": 3}}
    stream = Stream("t", spec, seed=0)
    places = stream.locate(np.arange(4096))
    for source, size in ((0, 7), (1, 5)):
        own = [place for place in places if place.source == source]
        assert [place.epoch for place in own] == [n // size for n in range(len(own))]
        for begin in range(0, len(own) - size, size):
            assert sorted(place.number for place in own[begin : begin + size]) == list(range(size))
    assert sum(place.source for place in places) == 3072


def test_order_of_a_mappings_keys_is_not_the_order_of_data(shards):
    a, b = shards("a", 7), shards("b", 5)
    streams = [Stream("t", spec, seed=0) for spec in ({"a": a, "b": b}, {"b": b, "a": a})]
    ids = [[s.identity(place) for place in s.locate(np.arange(50))] for s in streams]
    assert ids[0] == ids[1]


def test_seed_task_and_source_each_make_another_order(shards):
    pattern = shards("a", 50)
    streams = [
        Stream("t", pattern, 0),
        Stream("t", pattern, 1),
        Stream("u", pattern, 0),
        Stream("t", {"s": pattern}, 0),
    ]
    orders = {tuple(place.number for place in s.locate(np.arange(50))) for s in streams}
    assert len(orders) == 4


def test_replacement_is_another_sample(shards):
    stream = Stream("t", shards("a", 2), seed=0)
    for position in range(40):
        assert stream.replacement(Place(0, 0, 1), position, 0).number == 0
    alone = Stream("t", shards("b", 1), seed=0)
    assert alone.replacement(Place(0, 0, 0), 3, 0).number == 0


def test_randomness_belongs_to_the_position(shards):
    stream, other = Stream("t", shards("a", 3), 0), Stream("u", shards("a", 3), 0)
    draws = [stream.randomness(p).random() for p in (0, 1, 0)] + [other.randomness(0).random()]
    assert draws[0] == draws[2]
    assert len(set(draws)) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "empty mapping"),
        ({"a": {"pattrn": "x"}}, "takes pattern and weight"),
        ({False: "x", "en": "y"}, "name of a source must be a text in quotes without '/', got False"),
        ({"wiki/en": "x"}, "must be a text in quotes without '/', got 'wiki/en'"),
        ({"a": {"pattern": None}}, "source 't.a' is None"),
        ({"a": {"pattern": "x", "weight": "much"}}, "'much', which is no number"),
        ({"a": {"pattern": "x", "weight": 0}}, "source 'a' has the weight 0; it must be above 0"),
        (5, "source 't' is 5"),
        ([5], "source 't' is"),
        ([], "no shard pattern"),
    ],
)
def test_wrong_sources_are_named(spec, message):
    with pytest.raises(InputError, match=message):
        Stream("t", spec, 0)


def test_shard_cut_short_or_gone_after_it_was_opened_is_a_samples_fault(shards):
    pattern = shards("a", 12, max_bytes=10**6)
    stream = Stream("t", pattern, 0, None)
    path = stream.sources[0].urls[0]
    assert stream.read(Place(0, 0, 0)).members["txt"]
    os.truncate(path, 2000)
    with pytest.raises(SampleError, match="breaks off"):
        stream.read(Place(0, 0, 11))
    assert stream.read(Place(0, 0, 0)).members["txt"]
    os.unlink(path)
    with pytest.raises(SampleError, match="cannot be read"):
        Stream.read(_reopened(stream), Place(0, 0, 0))


def _reopened(stream):
    for source in stream.sources:
        source.close()
    return stream


def test_a_shard_that_breaks_off_gives_its_complete_samples_and_says_so(shards):
    pattern = shards("a", 12, max_bytes=10**6)
    os.truncate(pattern.replace("*", "000000"), 5 * 1024 + 100)
    stream = Stream("t", pattern, 0, None)
    assert [stream.identity(place)[1] for place in stream.locate(np.arange(5))] == [f"a-{n:05d}" for n in range(5)]
    assert len(stream) == 5
    (line,) = stream.sources[0].damage
    assert "a-000000.tar': breaks off at byte 5220" in line
    assert line.endswith("(5 samples are readable)")


def test_a_pattern_that_matches_nothing_is_named_with_its_source(shards, tmp_path):
    shards("a", 3)
    message = r"source 't.heldout': shards '.*-val-\*.tar' match nothing: '.*/shards' holds a-000000.tar"
    with pytest.raises(InputError, match=message):
        Stream("t.heldout", str(tmp_path / "shards" / "*-val-*.tar"), 0)


@pytest.mark.parametrize("count", [1, 3, 8, 99, 100, 1000])
def test_a_few_samples_are_spread_over_all(shards, count):
    stream = Stream("t", shards("a", 100), 0, ordering=None)
    found = stream.spread(count)
    assert len(found) == len(set(found)) == min(count, 100)
    assert found == sorted(found)
    gaps = np.diff([*found, 100])
    assert gaps.max() - gaps.min() <= 1
    assert found[0] == 0


@pytest.mark.parametrize(("count", "drawn_from"), [(4, 4), (20, 16), (60, 32), (90, 50)])
def test_few_of_many_remote_shards_are_transferred(shards, monkeypatch, count, drawn_from):
    for number in range(50):
        pattern = shards(f"a{number:02d}", 2)
    stream = Stream("t", pattern.replace("a49", "a*"), 0, ordering=None)
    assert stream.sources[0].counts.tolist() == [2] * 50
    monkeypatch.setattr(Stream, "remote", property(lambda self: True))
    found = stream.spread(count)
    assert len(set(found)) == count
    seen = {place.number // 2 for place in stream.locate(np.array(found))}
    assert len(seen) == drawn_from
    assert max(seen) >= 50 - 50 // min(count, 16) - 3
