"""Room in the cache: who keeps what open, and how those that wait get it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time

import pytest

from data.errors import CacheError
from data.store import held
from data.store.cache import Cache, Part
from tests.data.store.conftest import files


def made(cache: Cache, number: int) -> int:
    """A descriptor on an entry of 100 bytes."""
    return cache.get(str(number), 100, lambda part: os.ftruncate(part.descriptor, 100), 5, held.let_go)


def test_who_waits_lets_go_of_what_it_keeps(tmp_path):
    cache = Cache(tmp_path, 300)
    kept = [made(cache, n) for n in range(3)]

    def close() -> None:
        while kept:
            os.close(kept.pop())

    with held.during_work():
        assert held.keep(close)
        for n in range(3):
            os.close(made(cache, n))
        assert len(kept) == 3  # nothing was waited for
        os.close(made(cache, 3))
        assert kept == []


def test_what_is_kept_is_closed_after_the_work(tmp_path):
    closed = []
    assert not held.keep(lambda: closed.append("never"))
    with held.during_work():
        with held.during_work():
            assert held.keep(lambda: closed.append("kept"))
        assert closed == []
        pid = os.fork()
        if pid == 0:
            os._exit(0 if closed == ["kept"] and not held.keep(closed.clear) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert closed == []
    assert closed == ["kept"]


def test_a_part_in_the_way_of_another_is_made_anew(tmp_path):
    """Two that grow: each has what the other needs, and neither ends before it has more."""
    cache, both, began = Cache(tmp_path, 1000), threading.Barrier(2), [0, 0]

    def fill(number: int, part: Part) -> None:
        began[number] += 1
        if began[number] == 1:
            both.wait(10)
        for size in range(400, 801, 100):
            part.grow(size)
            os.write(part.descriptor, bytes(100))

    def work(number: int) -> None:
        os.close(cache.get(str(number), 400, lambda part: fill(number, part), 20))

    begin = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert time.monotonic() - begin < 5
    assert sum(began) > 2
    assert list(files(tmp_path)) == ["shards"]


def test_a_wait_lasts_while_something_changes(tmp_path):
    cache, ended = Cache(tmp_path, 1000), threading.Event()

    def slow(part: Part) -> None:
        for _ in range(6):
            os.write(part.descriptor, bytes(100))
            time.sleep(0.25)
        ended.set()

    thread = threading.Thread(target=lambda: os.close(cache.get("slow", 800, slow, 5)))
    thread.start()
    time.sleep(0.1)
    os.close(cache.get("other", 900, lambda part: None, 0.6))  # less than the other takes
    assert ended.is_set()
    thread.join()


def test_who_opens_what_is_there_lets_those_in_who_wait(tmp_path):
    """Two read an entry in turns, so that it is open all the time."""
    cache, ended = Cache(tmp_path, 100), threading.Event()

    def reads() -> None:
        while not ended.is_set():
            descriptor = made(cache, 0)
            time.sleep(0.02)
            os.close(descriptor)

    threads = [threading.Thread(target=reads) for _ in range(2)]
    for one in threads:
        one.start()
        time.sleep(0.01)
    try:
        for number in range(1, 4):
            os.close(cache.get(str(number), 100, lambda part: None, 1))
    finally:
        ended.set()
    for one in threads:
        one.join()


def test_on_nfs_what_is_locked_alone_must_be_open_for_writing(tmp_path, monkeypatch):
    flock = fcntl.flock

    def of_nfs(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    cache = Cache(tmp_path, 300)
    for n in range(5):
        os.close(made(cache, n))
    assert files(tmp_path) == {"shards": ["2", "3", "4"]}
    kept = [made(cache, n) for n in (2, 3, 4)]
    with pytest.raises(CacheError, match=r"3 open \(300 bytes\)"):
        cache.get("other", 100, lambda part: None, 0.2)
    for one in kept:
        os.close(one)
