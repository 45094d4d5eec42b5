import os
from itertools import count

import numpy as np
import pytest

from data.errors import SampleError
from data.shards import mapped
from data.shards.mapped import Mapped, resident
from data.shards.source import Source
from tests.data.shards.tars import write


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(1_000_000))
    descriptor = os.open(path, os.O_RDWR)
    if not resident(descriptor, 1_000_000):
        pytest.skip("this file system does not say what is in memory")
    yield descriptor
    os.close(descriptor)


CLOCK = count()


def view(look):
    """Looks anew, however short ago it did."""
    return look.view(next(CLOCK))


def evict(file):
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(file, os.fstat(file).st_size):
        pytest.skip("this file system keeps everything in memory")


def test_what_is_in_memory_is_seen_as_it_is(file):
    assert bytes(view(Mapped(file, 5))) == os.pread(file, 1_000_000, 0)


def test_what_is_not_in_memory_is_to_be_read_until_it_is(file):
    evict(file)
    look = Mapped(file, 3)
    assert [view(look) for _ in range(4)] == [None] * 4  # looked up at the first use and after three others
    os.pread(file, 1_000_000, 0)
    found = [view(look) is not None for _ in range(8)]
    assert found == [False] * found.index(True) + [True] * (8 - found.index(True))
    evict(file)
    assert None in [view(look) for _ in range(4)]


def test_a_file_that_is_cut_is_mapped_no_more(file):
    look = Mapped(file, 1000)
    assert view(look) is not None
    os.ftruncate(file, 500_000)
    assert view(look) is None
    os.ftruncate(file, 0)
    assert view(Mapped(file, 3)) is None


def test_a_file_that_is_cut_is_noticed_at_once_by_who_reads_sample_by_sample(file):
    look = Mapped(file, 1000)
    assert look.view(100.0) is not None
    assert look.view(100.0) is not None
    os.ftruncate(file, 500_000)
    assert look.view(100.0009) is not None
    assert look.mapping() is None


def test_a_file_system_that_cannot_say_counts_as_not(file, monkeypatch):
    def refuses(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(mapped.os, "preadv", refuses)
    assert view(Mapped(file, 3)) is None


def test_samples_are_the_same_either_way_and_a_cut_shard_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "s.tar", [f"{'long/' * (n % 3 * 20)}k{n}.{e}" for n in range(20) for e in ("txt", "jpg")])
    source = Source("x", str(path))
    seen = [source.read(n) for n in range(20)]
    assert view(source._open(0).mapped) is not None
    monkeypatch.setattr(Mapped, "mapping", lambda self: None)
    plain = Source("x", str(path))
    assert [plain.read(n) for n in range(20)] == seen
    monkeypatch.undo()
    os.truncate(path, 5_000)
    with pytest.raises(SampleError):
        source.read(19)
