"""Members looked at where they lie are the members that are read, and give way to reading wherever that is not safe."""

import mmap
import os
import shutil
import time

import numpy as np
import pytest

from data.loading import watch
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.loading.units import Units
from data.shards import mapped
from data.store.cache import Cache
from data.store.store import Store
from data.stream import Stream
from tests.data.loading.layouts import KINDS, OneByOne, made, members, outcome, regular
from tests.data.shards.tars import USTAR, write

FIELDS = ["txt", "jpg"]


def looked(prepare=FIELDS):
    return RawPrepare(prepare, views=True)


def in_place(array):
    """Whether it is a look at a mapped file."""
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap) and not array.flags.writeable


def arrays(stream, prepare, **more):
    for step in StepLoader({"t": TaskData(stream, prepare, 6)}, 0, 7, **more):
        for part in step.tasks["t"]:
            yield from (member for sample in part["members"] for member in sample if len(member))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_and_damage_as_sample_by_sample(tmp_path, kind):
    stream = made(tmp_path, [kind, "regular"])
    assert outcome(stream, looked()) == outcome(stream, OneByOne(FIELDS))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("micro", [None, 4, 1])
def test_whatever_the_workers_and_micro_batches(tmp_path, workers, micro):
    stream = made(tmp_path, [kind for kind in KINDS if kind not in ("gone", "cut_off")])
    meant = outcome(stream, OneByOne(["jpg"]), steps=20)
    assert sum(len(rejected) for *_, rejected in meant) > 5
    assert outcome(stream, looked(["jpg"]), workers, micro, steps=20) == meant


@pytest.mark.parametrize("workers", [0, 2])
def test_of_several_sources(tmp_path, workers):
    for name, kind in {"a": "pax_times", "b": "regular"}.items():
        (tmp_path / name).mkdir()
        for number in range(2):
            KINDS[kind](tmp_path / name / f"{number}.tar", number)
    spec = {name: str(tmp_path / name / "*.tar") for name in ("a", "b")}
    meant = outcome(Stream("t", spec, 0), OneByOne(FIELDS), micro=2)
    assert {source for _, places, _ in meant for source, _ in places} == {0, 1}
    assert outcome(Stream("t", spec, 0), looked(), workers, micro=2) == meant
    assert all(map(in_place, arrays(Stream("t", spec, 0), looked(), workers=workers)))


@pytest.mark.parametrize("kind", ["regular", "pax_times", "more_members"])
@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_copied(tmp_path, kind, workers):
    stream = made(tmp_path, [kind, kind])
    assert all(map(in_place, arrays(stream, looked(), workers=workers)))
    taken = next(array for array in arrays(stream, looked(), workers=workers) if len(array) > 100)
    before = taken.tobytes()
    for path in tmp_path.glob("*.tar"):  # written anew where it lies: the look sees it
        content = path.read_bytes()
        with open(path, "r+b") as file:
            file.write(content.replace(before, bytes(len(before))))
    assert taken.tobytes() == bytes(len(before))
    with pytest.raises(ValueError, match="read-only"):
        taken[0] = 1


def test_a_look_outlives_its_loader_and_a_shard_that_is_replaced(tmp_path):
    stream = made(tmp_path, ["regular"])
    taken = list(arrays(stream, looked()))
    before = [array.tobytes() for array in taken]
    regular(tmp_path / "other", 5)
    os.replace(tmp_path / "other", tmp_path / "0.tar")
    stream.close()
    del stream
    assert [array.tobytes() for array in taken] == before


def test_large_members_are_looked_at_too(tmp_path):
    """Those of more than 4 MiB are read one by one otherwise."""
    write(tmp_path / "0.tar", [(f"{n}.bin", os.urandom(5 << 20)) for n in range(3)], USTAR)
    stream = Stream("t", str(tmp_path / "*.tar"), 3)
    assert all(map(in_place, arrays(stream, looked(["bin"]))))
    assert outcome(stream, looked(["bin"])) == outcome(stream, OneByOne(["bin"]))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_does_not_lie_in_memory_is_read(tmp_path, monkeypatch, workers):
    stream = made(tmp_path, ["regular", "pax_times"])
    meant = outcome(stream, OneByOne(FIELDS))
    monkeypatch.setattr(mapped, "resident", lambda file, size: False)
    stream.close()
    assert not any(map(in_place, arrays(stream, looked(), workers=workers)))
    assert outcome(stream, looked(), workers) == meant


def test_a_cached_shard_is_read_as_its_file_may_have_to_go(tmp_path):
    pipes = []
    for number in range(2):
        regular(tmp_path / f"{number}.tar", number)
        pipes.append(f"pipe:cat {tmp_path}/{number}.tar")
    stream = Stream("t", pipes, 3, store=Store(Cache(tmp_path / "cache"), allowed_pipes=pipes))
    assert not any(map(in_place, arrays(stream, looked())))
    assert outcome(stream, looked()) == outcome(Stream("t", str(tmp_path / "*.tar"), 3), OneByOne(FIELDS))


@pytest.mark.parametrize("harm", ["cut", "replaced"])
def test_what_was_harmed_on_its_way_to_the_trainer_is_made_again_by_it(tmp_path, harm):
    stream, path, seat = made(tmp_path, ["regular"]), tmp_path / "0.tar", watch.seats(1)[0]
    units = Units({"t": TaskData(stream, looked(), 6)}, 0, 9, 0, 1)
    unit = units.make(1, seat)
    assert unit.located
    if harm == "cut":
        os.truncate(path, path.stat().st_size // 2)
        time.sleep(2 * mapped._TRUSTED_S)
    else:  # by one that looks the same, but is another file
        stat = path.stat()
        shutil.copy(path, tmp_path / "other")
        os.utime(tmp_path / "other", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.replace(tmp_path / "other", path)
        stream.close()
    arrived = units.arrived(1, unit, seat)
    again = Units({"t": TaskData(stream, OneByOne(FIELDS), 6)}, 0, 9, 0, 1).make(1, seat)
    assert not any(in_place(member) for sample in arrived.batch["members"] for member in sample)
    assert members(arrived.batch) == members(again.batch)
    assert (arrived.step, arrived.rejected) == (again.step, again.rejected)
    assert bool(arrived.rejected) == (harm == "cut")
