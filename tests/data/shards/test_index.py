import os
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError, SampleError
from data.shards import index, indexfile
from data.store.store import Stamp, Store
from tests.data.shards.tars import USTAR, samples, write

COLUMNS = ("first", "block", "size", "extension", "run", "again", "doubtful")


def same(a, b):
    assert (a.summary, a.extensions, a.width) == (b.summary, b.extensions, b.width)
    for column in COLUMNS:
        left, right = getattr(a, column), getattr(b, column)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)


def regular(path, count=1000):
    rng = np.random.default_rng(1)
    members = []
    for n in range(count):
        members += [
            (f"{n:09d}.cls", b"%d" % (n % 1000)),
            (f"{n:09d}.jpg", bytes(int(rng.integers(2000, 9000)))),
            (f"{n:09d}.json", bytes(int(rng.integers(300, 600)))),
        ]
    return write(path, members, USTAR)


def test_summary_members_and_lacking(tmp_path):
    path = write(tmp_path / "s.tar", ["a.jpg", "a.txt", "b.txt", "c.jpg", "c.txt", "c.seg.png"])
    found = index.scan(path)
    assert found.summary == index.Summary(3, path.stat().st_size, {"jpg": 2, "seg.png": 1, "txt": 3}, ())
    assert [sorted(found.members(i)) for i in range(3)] == [["jpg", "txt"], ["txt"], ["jpg", "seg.png", "txt"]]
    assert found.lacking(("jpg", "png")).tolist() == [1]
    assert found.lacking(("txt",)).tolist() == []
    assert found.lacking(("mp3",)).tolist() == [0, 1, 2]
    assert found.lacking(("jpg", "png")).dtype == np.int64


def test_index_is_kept_and_comes_back_the_same(tmp_path):
    names = ["a.jpg", "b.jpg", "a.txt", "b.jpg", "ü/日本.TXT", "line\nend.txt", os.fsdecode(b"k\xff.t\xfe"), "z.jpg"]
    path = write(tmp_path / "s.tar", names, USTAR, errors="surrogateescape")
    path.write_bytes(path.read_bytes()[:-10240])  # cuts the last sample
    first = index.load(path)
    stored = (tmp_path / "s.tar.idx").stat()
    second = index.load(path)
    same(first, second)
    same(first, index.scan(path))
    assert first.summary.damage
    assert (tmp_path / "s.tar.idx").stat().st_ino == stored.st_ino
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert samples(path, first) == samples(path, second)


def test_a_summary_is_one_small_read(tmp_path):
    path = regular(tmp_path / "s.tar")
    made = index.load(path)
    summary, stamp = index.summary_of(str(path), Store())
    assert summary == made.summary
    assert stamp.bytes == path.stat().st_size
    stored = tmp_path / "s.tar.idx"
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1  # the columns are damaged, the head is not
    stored.write_bytes(content)
    assert index.summary_of(str(path), Store())[0] == made.summary


def test_an_index_is_small(tmp_path):
    path = regular(tmp_path / "s.tar")
    found = index.load(path)
    assert found.width == 3
    assert found.first is None
    assert (tmp_path / "s.tar.idx").stat().st_size < 6 * 1000
    assert found.nbytes < 12 * 3000 + 5000


def test_stale_or_damaged_index_is_made_anew(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt"])
    index.load(path)
    write(path, ["b.txt", "c.txt"])
    assert [key for key, _ in samples(path, index.load(path))] == ["b", "c"]
    stored = tmp_path / "s.tar.idx"
    sound = stored.read_bytes()
    for n in range(len(sound)):
        for damaged in (sound[:n], sound[:n] + bytes([sound[n] ^ 0x55]) + sound[n + 1 :]):
            stored.write_bytes(damaged)
            assert index.stored(Stamp(path.stat().st_size, str(path.stat().st_mtime_ns)), [stored]) is None
    for damaged in (b"", b"junk", os.urandom(500), sound + b"x"):
        stored.write_bytes(damaged)
        assert [key for key, _ in samples(path, index.load(path))] == ["b", "c"]
        assert stored.read_bytes() == sound


def test_an_edit_of_the_same_size_is_noticed_by_its_time(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt"])
    index.load(path)
    write(path, ["a.cls"])
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1))
    assert list(index.load(path).members(0)) == ["cls"]


def test_the_first_place_that_can_be_written_is_used(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt"])
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file" / "s.idx", tmp_path / "cache" / "s.idx"]
    found = index.load(path, Stamp(1, "v1"), places)
    assert places[1].exists()
    assert not (tmp_path / "s.tar.idx").exists()
    same(found, index.load(path, Stamp(1, "v1"), places))
    assert indexfile.read(places[1], "1 v2") is None
    index.load(path, Stamp(1, "v1"), places[:1])  # nowhere: it is made anew each time


def test_more_extensions_than_sixteen_bits(tmp_path):
    path = tmp_path / "s.tar"
    blocks = []
    for number in range(66_000):
        block = bytearray(512)
        name = f"k.{number}".encode()
        block[: len(name)] = name
        block[124:136] = b"00000000000\0"
        block[156:157] = b"0"
        block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
        blocks.append(bytes(block))
    path.write_bytes(b"".join(blocks))
    assert index.scan(path).members(0)["65999"] == (66_000 * 512, 0)


def test_unreadable_shards_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        index.load(tmp_path / "no.tar")
    with pytest.raises(InputError, match="cannot be read"):
        index.load(tmp_path)


def test_a_tar_that_is_not_what_its_index_says(tmp_path):
    path = write(tmp_path / "s.tar", ["a.jpg", "a.txt", "b.jpg", "b.txt"])
    found = index.scan(path)
    for others, message in [
        (["a.jpg", "a.cls", "b.jpg", "b.cls"], "txt is not what its index says"),
        (["a.jpg", "c.txt", "b.jpg", "c.txt"], "txt is not what its index says"),
        (["a.jpg"], "not what its index says"),
        ([("a.jpg", b"xy"), "a.txt", "b.jpg", "b.txt"], "jpg is not what its index says"),
    ]:
        write(path, others)
        with open(path, "rb") as file, pytest.raises(SampleError, match=message):
            found.read(0, file.fileno())
    write(path, ["a.jpg", ("a.txt", b"x" * 900), "b.jpg", "b.txt"])
    found = index.scan(path)
    with open(path, "r+b") as file:
        file.truncate(2200)
        with pytest.raises(SampleError, match="not what its index says, but shorter"):
            found.read(0, file.fileno())
        with pytest.raises(SampleError, match="not what its index says"):
            found.key(1, file.fileno())


def test_an_index_can_be_sent_to_another_process(tmp_path):
    found = index.scan(write(tmp_path / "s.tar", ["a.jpg", "b.txt"]))
    same(found, pickle.loads(pickle.dumps(found)))  # noqa: S301


NAME = st.tuples(
    st.sampled_from(["a", "b", "c", "d/a", "é", "k" * 90, "l" * 110, "m/" * 80 + "n"]),
    st.sampled_from(["jpg", "txt", "seg.png", "JSON", "x" * 40]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAME, st.binary(max_size=1200)), max_size=25), st.sampled_from([0, 1, 2]))
def test_any_members_in_any_order_are_all_delivered(tmp_path_factory, members, format):
    """Against a plain telling of the rule: an extension that its key's newest sample has begins another one."""
    path = tmp_path_factory.mktemp("any") / "s.tar"
    members = [((key, ext), data) for (key, ext), data in members if format or len(f"{key}.{ext}") < 100]
    write(path, [(f"{key}.{ext}", data) for (key, ext), data in members], format)
    expected, newest, count = [], {}, {}
    for (key, ext), data in members:
        ext = ext.lower()
        if key not in newest or ext in expected[newest[key]][1]:
            count[key] = count.get(key, 0) + 1
            newest[key] = len(expected)
            expected.append((key if count[key] == 1 else f"{key}#{count[key]}", {}))
        expected[newest[key]][1][ext] = data
    found = index.load(path)
    assert samples(path, found) == expected
    same(found, index.load(path))
    assert found.summary.damage == ()


def test_reads_that_return_less_than_asked_for_are_gone_on_with(tmp_path, monkeypatch):
    """As those of 2 GiB and more do, and some of network file systems; both near one another and far apart."""
    far = [("far.a", bytes(300_000)), ("x.b", b"between" * 200_000), ("far.c", b"c" * 5000)]
    path = write(tmp_path / "s.tar", [("near.a", b"a" * 3000), ("near.b", b"b" * 2000), *far])
    found = index.scan(path)
    meant = samples(path, found)
    assert [key for key, _ in meant] == ["near", "far", "x"]
    real, calls = os.pread, []

    def short(file, length, offset):
        calls.append(length)
        return real(file, min(length, 100_000 if length > 100_000 else 400), offset)

    monkeypatch.setattr(os, "pread", short)
    with open(path, "rb") as file:
        assert [found.read(i, file.fileno()) for i in range(3)] == meant
        assert [found.key(i, file.fileno()) for i in range(3)] == ["near", "far", "x"]
    assert len(calls) > 30
    os.truncate(path, 1_500_000)
    with open(path, "rb") as file, pytest.raises(SampleError, match="breaks off"):
        [found.read(i, file.fileno()) for i in range(3)]
