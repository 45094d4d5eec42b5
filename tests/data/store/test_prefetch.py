"""In the background: in order, bounded, cancellable."""

from __future__ import annotations

import errno
import os
import time

import pytest

from data.store.cache import Cache
from data.store.prefetch import Prefetcher
from data.store.store import Store
from tests.data.store.conftest import SIZE, read


@pytest.fixture
def many(served, content):
    for n in range(8):
        (served / f"{n}.tar").write_bytes(content[n:] + content[:n])
    return [content[n:] + content[:n] for n in range(8)]


@pytest.fixture
def store(tmp_path, fresh):
    made = Store(Cache(tmp_path / "cache", 6 * SIZE + 1000), deadline_s=3)
    yield made
    made.close()


def test_what_fits_into_half_of_the_cache_in_order(faulty, store, many):
    url = f"{faulty.url}/okay/{{}}.tar".format
    store.prefetch(url(n) for n in range(8))
    assert store.settled(10)
    assert [store.holds(url(n)) for n in range(8)] == [True] * 3 + [False] * 5
    store.prefetch([url(0), url(2), url(4), url(5)])  # held ones count
    assert store.settled(10)
    assert [store.holds(url(n)) for n in range(8)] == [True] * 3 + [False, True] + [False] * 3
    assert read(store.fetch(url(4))) == many[4]
    assert sum(faulty.gets(f"/okay/{n}.tar") for n in range(8)) == 4


def test_what_is_in_use_stays(faulty, store, many):
    url = f"{faulty.url}/okay/{{}}.tar".format
    held = [store.fetch(url(n)) for n in range(6)]
    store.prefetch([url(6), url(7)])
    assert store.settled(10)
    assert [store.holds(url(n)) for n in range(8)] == [True] * 6 + [False] * 2
    assert [read(one) for one in held] == many[:6]


def test_another_list_cancels(faulty, store, many):
    slow, fast = f"{faulty.url}/slow/{{}}.tar".format, f"{faulty.url}/okay/{{}}.tar".format
    store.prefetch(slow(n) for n in range(3))
    time.sleep(0.4)
    store.prefetch([fast(7)])
    assert store.settled(30)
    assert store.holds(fast(7))
    assert not store.holds(slow(0))
    store.prefetch(slow(n) for n in range(3))
    time.sleep(0.3)
    store.close()
    assert not any(store.holds(slow(n)) for n in range(3))  # nobody waited for them
    assert not any((store.cache.folder / "parts").iterdir())


def test_errors_are_left_to_who_needs_it(faulty, store, many):
    store.prefetch([f"{faulty.url}/gone/0.tar", f"{faulty.url}/denied/0.tar", f"{faulty.url}/okay/1.tar"])
    assert store.settled(10)
    assert store.holds(f"{faulty.url}/okay/1.tar")


def test_an_unexpected_error_costs_no_thread(caplog):
    fetched, threads = [], 2

    def size(name, cancelled):
        if name.startswith("bad size"):
            raise KeyError(name)
        return 1

    def fetch(name, cancelled):
        if name.startswith("bad"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        fetched.append(name)
        return os.open(os.devnull, os.O_RDONLY)

    fetcher = Prefetcher(fetch, size, 100, threads)
    for again in range(3):
        fetcher.ask([*(f"bad size {n}" for n in range(4)), *(f"bad {n}" for n in range(4)), f"good {again}", "good"])
        assert fetcher.wait(10)
    assert sorted(fetched) == ["good", "good", "good", "good 0", "good 1", "good 2"]
    assert len(caplog.records) == 2  # one of a kind
    assert "was not fetched ahead: OSError: [Errno 122] Disk quota exceeded" in caplog.text


def test_a_fetch_joins_a_prefetch(faulty, store, many):
    url = f"{faulty.url}/slow/1.tar"
    store.prefetch([url])
    time.sleep(0.3)
    assert read(store.fetch(url)) == many[1]
    assert faulty.gets("/slow/1.tar") == 1
