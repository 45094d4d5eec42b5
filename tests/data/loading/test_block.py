"""The contents of a batch read in one piece are what reading sample by sample gives, whatever the shards are like."""

import io
import os
import random
import tarfile

import numpy as np
import pytest

from data.errors import InputError
from data.loading import watch
from data.loading.block import read
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.shards import spans
from data.stream import Place, Stream
from tests.data.shards.tars import GNU, PAX, USTAR, write


class OneByOne(RawPrepare):
    """The same without blocks."""

    block_fields = None


def body(name):
    rng = random.Random(name)
    return rng.randbytes(rng.choice([0, 1, 511, 512, 513, 3000, 70_000]))


def regular(path, number):
    write(path, [(f"{number}-{n:03d}.{e}", body(f"{number}{n}{e}")) for n in range(9) for e in ("jpg", "txt")], USTAR)


def pax_times(path, number):
    """As webdataset's own writer, img2dataset with it, and Python's tarfile with a time make them."""
    with tarfile.open(path, "w", format=PAX) as tar:
        for n in range(9):
            for extension in ("txt", "jpg"):
                info = tarfile.TarInfo(f"{number}-{n:03d}.{extension}")
                info.size, info.mtime = len(body(info.name)), 1700000000.25 + n
                tar.addfile(info, io.BytesIO(body(info.name)))


def pax_names(path, number):
    write(path, [(f"{number}-ü{n:03d}.{e}", body(f"{number}{n}{e}")) for n in range(9) for e in ("jpg", "txt")], PAX)


def gnu_names(path, number):
    folder = "long/" * 30
    names = [f"{folder}{number}-{n:03d}.{e}" for n in range(9) for e in ("jpg", "txt")]
    write(path, [(name, body(name)) for name in names], GNU)


def interleaved(path, number):
    names = [f"{number}-{n:03d}.{e}" for e in ("jpg", "txt") for n in range(9)]
    write(path, [(name, body(name)) for name in names], USTAR)


def far_apart(path, number):
    names = [f"{number}-{n:03d}.{e}" for e in ("jpg", "txt") for n in range(9)]
    write(path, [(name, os.urandom(400_000) if name.endswith("jpg") else b"t") for name in names], USTAR)


def repeated_keys(path, number):
    names = [f"{number}-{n % 3:03d}.{e}" for n in range(9) for e in ("jpg", "txt")]
    write(path, [(name, body(f"{name}{n}")) for n, name in enumerate(names)], USTAR)


def more_members(path, number):
    extra = {n: ["json", "seg.png"][: n % 3] for n in range(9)}
    names = [f"{number}-{n:03d}.{e}" for n in range(9) for e in (*extra[n], "txt", "jpg")]
    write(path, [(name, body(name)) for name in names], USTAR)


def some_lack_one(path, number):
    names = [
        f"{number}-{n:03d}.{e}" for n in range(9) for e in ("jpg", "txt") if (n, e) not in ((2, "jpg"), (5, "txt"))
    ]
    write(path, [(name, body(name)) for name in names], USTAR)


def cut_off(path, number):
    """After its index was made, as a file system does it that loses the end."""
    regular(path, number)
    return lambda: _damage(path, lambda file, size: file.truncate(size // 2))


def other_headers(path, number):
    """A header that says another size than its index."""
    pax_times(path, number)
    return lambda: _damage(path, _other_sizes)


def _other_sizes(file, size):
    content = file.seek(0) or file.read()
    for n in (0, 3, 7):
        at = content.index(f"{number_of(content)}-{n:03d}.jpg\0".encode()) + 124
        file.seek(at)
        file.write(b"%011o" % 5)


def number_of(content):
    return content[content.index(b"-000.") - 1 : content.index(b"-000.")].decode()


def other_records(path, number):
    """A PAX record that says another size where there was a time."""
    pax_times(path, number)
    return lambda: _damage(path, _other_record)


def _other_record(file, size):
    content = file.seek(0) or file.read()
    at = content.index(b"mtime=")
    file.seek(at)
    file.write(b"size=00")


def gone(path, number):
    regular(path, number)
    return lambda: os.unlink(path)


def _damage(path, change):
    stat = os.stat(path)
    with open(path, "r+b") as file:
        change(file, stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # or it would be told from its time


KINDS = {kind.__name__: kind for kind in (
    regular, pax_times, pax_names, gnu_names, interleaved, far_apart, repeated_keys, more_members, some_lack_one,
    cut_off, other_headers, other_records, gone,
)}  # fmt: skip


def made(tmp_path, kinds):
    """A stream over a shard of each of ``kinds``, harmed after it knew what they hold."""
    after = []
    for number, kind in enumerate(kinds):
        after.append(KINDS[kind](tmp_path / f"{number}.tar", number))
    stream = Stream("t", str(tmp_path / "*.tar"), 3)
    for shard in range(len(kinds)):  # open it
        stream.identity(Place(0, 0, int(stream.sources[0].counts[:shard].sum())))
    for harm in filter(None, after):
        harm()
    return stream


def outcome(stream, prepare, workers=0, micro=None, steps=7, batch=6):
    """(contents, places, rejected) of some steps: two epochs and more."""
    found = []
    for step in StepLoader({"t": TaskData(stream, prepare, batch, micro)}, 0, steps, workers=workers):
        contents = []
        for part in step.tasks["t"]:
            content = part["bytes"].numpy().tobytes()
            contents += [[content[a:b] for a, b in sample] for sample in part["edges"].tolist()]
            assert part["size"] == len(part["edges"])
        found.append((contents, step.places["t"].tolist(), step.rejected))
    return found


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
