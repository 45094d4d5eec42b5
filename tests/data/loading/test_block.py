"""The contents of a batch read in one piece are what reading sample by sample gives, whatever the shards are like."""

import numpy as np
import pytest

from data.errors import InputError
from data.loading import watch
from data.loading.block import read
from data.loading.raw import RawPrepare
from data.shards import spans
from data.stream import Stream
from tests.data.loading.layouts import KINDS, OneByOne, made, outcome


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_and_damage_as_sample_by_sample(tmp_path, kind):
    stream = made(tmp_path, [kind, "regular"])
    meant = outcome(stream, OneByOne(["txt", "jpg"]))
    assert outcome(stream, RawPrepare(["txt", "jpg"])) == meant
    harmed = kind in ("some_lack_one", "cut_off", "other_headers", "other_records")
    assert any(rejected for *_, rejected in meant) == harmed or kind == "gone"


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("micro", [None, 4, 1])
def test_whatever_the_workers_and_micro_batches(tmp_path, workers, micro):
    stream = made(tmp_path, [kind for kind in KINDS if kind not in ("gone", "cut_off")])
    meant = outcome(stream, OneByOne(["jpg"]), steps=20)
    assert sum(len(rejected) for *_, rejected in meant) > 5
    assert outcome(stream, RawPrepare(["jpg"]), workers, micro, steps=20) == meant
    assert outcome(stream, OneByOne(["jpg"]), workers, micro, steps=20) == meant


@pytest.mark.parametrize("workers", [0, 2])
def test_of_several_sources(tmp_path, workers):
    for name, kinds in {"a": ["regular", "pax_times"], "b": ["interleaved", "some_lack_one", "other_headers"]}.items():
        (tmp_path / name).mkdir()
        for number, kind in enumerate(kinds):
            harm = KINDS[kind](tmp_path / name / f"{number}.tar", number)
    spec = {"a": str(tmp_path / "a" / "*.tar"), "b": {"pattern": str(tmp_path / "b" / "*.tar"), "weight": 2}}
    stream = Stream("t", spec, 0)
    harm()
    meant = outcome(stream, OneByOne(["txt", "jpg"]), micro=2)
    assert {source for _, places, _ in meant for source, _ in places} == {0, 1}
    assert outcome(stream, RawPrepare(["txt", "jpg"]), workers, micro=2) == meant


def test_eight_unusable_in_a_row_end_the_run_as_they_do_otherwise(tmp_path):
    stream = made(tmp_path, ["regular"])
    with pytest.raises(InputError) as one:
        outcome(stream, OneByOne(["wav"]))
    with pytest.raises(InputError) as block:
        outcome(stream, RawPrepare(["wav"]))
    assert str(one.value) == str(block.value)


@pytest.mark.parametrize(("kind", "at_once"), [
    ("regular", True), ("pax_times", True), ("more_members", True), ("repeated_keys", True),
    ("pax_names", False), ("gnu_names", False),
])  # fmt: skip
def test_usual_layouts_are_read_in_one_piece(tmp_path, kind, at_once):
    stream = made(tmp_path, [kind])
    places = stream.locate_block(np.arange(9))
    found = spans.find(stream.sources, places, ["jpg"])
    names = places[:, 2].tolist()
    seat = watch.seats(1)[0]
    block, failed = read(stream.sources, found, 2, 8, names[2:8], lambda n: np.empty(n, np.uint8), seat)
    assert failed == ([] if at_once else list(range(6)))
    assert seat.doing().number == names[7]
    if at_once:
        for (begin, end), number in zip(block.edges[:, 0].tolist(), names[2:8], strict=True):
            assert block.buffer[begin:end].tobytes() == stream.sources[0].read(number).members["jpg"]


def test_a_block_that_hangs_is_named():
    seat = watch.seats(1)[0]
    seat.note(watch.PLANNING, 0, 6)
    seat.reading_block(12)
    seat.numbers[watch.NUMBER] = (3 << watch.SOURCE_BITS) + 5
    doing = seat.doing()
    assert (doing.source, doing.number, doing.position) == (3, 5, 12)
    words = watch.activity(doing, "t", lambda source, number: ("0.tar", number))
    assert words.startswith("reads sample number 5 of shard '0.tar' for 0 s (task 't', one of 6 samples that it reads")
