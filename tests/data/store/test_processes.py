"""Several processes with one cache: together, killed, forked."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data.errors import InputError
from data.store import remote
from data.store.cache import Cache
from data.store.locks import hold
from data.store.store import Store
from tests.data.store.conftest import files, read
from tests.faulty_store import FaultyStore
from tests.processes import gone, until

SHARDS, BYTES = 16, 200_000
ROOT = Path(__file__).parents[3]

READER = """
import hashlib, json, os, random, sys
from data.store.cache import Cache
from data.store.store import Store

address, folder, size, seed = sys.argv[1:]
store = Store(Cache(folder, size), deadline_s=30)
order = list(range(16)) * 2
random.Random(int(seed)).shuffle(order)
for k, n in enumerate(order):
    if k % 4 == 0:
        store.prefetch(address % m for m in order[k : k + 4])
    descriptor = store.fetch(address % n)
    digest = hashlib.sha256()
    while data := os.read(descriptor, 50_000):
        digest.update(data)
    os.close(descriptor)
    print(json.dumps([n, digest.hexdigest()]))
store.close()
"""

ONE = """
import sys, time
from data.store.cache import Cache
from data.store.store import Store

store = Store(Cache(sys.argv[2], "20MB"), deadline_s=30)
print("begins", flush=True)
store.fetch(sys.argv[1])
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def used(cache: Cache) -> int:
    """Bytes of shards and parts, between two changes of the cache."""
    cache.prepare()
    with hold(cache.place("locks", "cache")):
        total = 0
        for kind in ("shards", "parts"):
            for entry in os.scandir(cache.folder / kind):
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:  # a part that was given up
                    continue
        return total


def helpers(parent: int) -> list[int]:
    """The processes that download for ``parent``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if b"data.store.downloader" in words and int(status[1]) == parent and status[0] != "Z":
            found.append(int(folder.name))
    return found


@pytest.fixture
def noisy(tmp_path):
    folder = tmp_path / "noisy"
    folder.mkdir()
    for n in range(SHARDS):
        (folder / f"{n}.tar").write_bytes(hashlib.sha256(bytes([n])).digest() * (BYTES // 32))
    with FaultyStore(folder, seed=1, share=0.2) as server:
        yield server


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_a_cache_that_is_too_small(noisy, tmp_path, processes):
    cache = Cache(tmp_path / "cache", 3 * BYTES + 1000)
    readers = [start(READER, f"{noisy.url}/noise/%d.tar", cache.folder, cache.max_size, n) for n in range(processes)]
    worst = 0
    while any(one.poll() is None for one in readers):
        worst = max(worst, used(cache))
        time.sleep(0.003)
    wanted = {n: hashlib.sha256((noisy.folder / f"{n}.tar").read_bytes()).hexdigest() for n in range(SHARDS)}
    for one in readers:
        out, words = one.communicate()
        assert one.returncode == 0, words.decode()[-2000:]
        rows = [json.loads(line) for line in out.splitlines()]
        assert len(rows) == 2 * SHARDS
        assert all(digest == wanted[n] for n, digest in rows)
    assert 2 * BYTES <= worst <= cache.max_size
    left = files(cache.folder)
    assert set(left) == {"shards"}
    assert len(left["shards"]) <= 3


def test_processes_fetch_a_shard_once(noisy, tmp_path):
    readers = [start(ONE, f"{noisy.url}/okay/1.tar", tmp_path / "cache") for _ in range(4)]
    assert [one.wait(30) for one in readers] == [0] * 4
    assert noisy.gets("/okay/1.tar") == 1
    for one in readers:
        one.communicate()


def test_kill_in_the_middle_of_a_download(faulty, tmp_path, content, served):
    (served / "a.tar").write_bytes(content * 4)  # 6 s at 1 MB/s
    cache = Cache(tmp_path / "cache", "20MB")
    process = start(ONE, f"{faulty.url}/slow/a.tar", cache.folder)
    cache.prepare()
    until(lambda: used(cache) > 200_000, 20)
    (helper,) = helpers(process.pid)
    process.kill()
    process.communicate()
    until(lambda: gone(helper), 3)
    assert len(files(cache.folder)["parts"]) == 1
    assert read(Store(cache, deadline_s=8).fetch(f"{faulty.url}/okay/a.tar")) == content * 4
    assert set(files(cache.folder)) == {"shards"}


def test_a_helper_that_dies_is_replaced(faulty, store, content, fresh):
    store.stamp(f"{faulty.url}/okay/a.tar")
    (helper,) = helpers(os.getpid())
    os.kill(helper, signal.SIGTERM)  # a cluster sends it to every process
    time.sleep(0.1)
    assert not gone(helper)
    os.kill(helper, signal.SIGKILL)
    assert read(store.fetch(f"{faulty.url}/okay/a.tar")) == content


FORKS = """
import os, signal, sys, time
from data.store.cache import Cache
from data.store.store import Store

address, folder = sys.argv[1:]
store = Store(Cache(folder, "20MB"), deadline_s=10)
os.close(store.fetch(address % "0"))
store.prefetch(address % n for n in range(1, 6))
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        for m in range(16):
            descriptor = store.fetch(address % ((m + n) % 16))
            assert len(os.read(descriptor, 1 << 20)) == 200_000 // 32 * 32
            os.close(descriptor)
        if n == 2:
            print("sleeps", flush=True)
            time.sleep(60)
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children[:2]] == [0, 0]
for n in range(16):
    os.close(store.fetch(address % n))
print(children[2], flush=True)
time.sleep(60)
"""


def test_forks_of_a_process_that_has_used_the_store(noisy, tmp_path):
    process = start(FORKS, f"{noisy.url}/noise/%s.tar", tmp_path / "cache")
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(2)]
    assert b"sleeps" in said, process.communicate()[1].decode()
    child = int(next(word for word in said if word != b"sleeps"))
    (ours,) = helpers(process.pid)
    (theirs,) = helpers(child)
    process.kill()  # the child lives on, and holds nothing of the parent's helper
    until(lambda: gone(ours), 3)
    assert not gone(theirs)
    os.kill(child, signal.SIGKILL)
    until(lambda: gone(theirs), 3)
    process.communicate()


def test_the_helper_ends_with_an_orderly_parent(faulty, tmp_path):
    process = start(ONE + "\nprint('done', flush=True)\ntime.sleep(1)", f"{faulty.url}/okay/a.tar", tmp_path / "cache")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    assert process.stdout.readline() == b"done\n", process.communicate()[1].decode()
    (helper,) = helpers(process.pid)
    assert process.wait(10) == 0
    until(lambda: gone(helper), 3)
    process.communicate()


def test_end(faulty, store, fresh):
    store.stamp(f"{faulty.url}/okay/a.tar")
    assert len(helpers(os.getpid())) == 1
    remote.end()
    assert helpers(os.getpid()) == []


def test_settings_that_change_hold_for_the_next_request(tmp_path, store, served, monkeypatch, fresh):
    """A notebook sets an address or keys after it was refused once."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/b.tar").write_bytes(b"b")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with FaultyStore(served) as first, FaultyStore(tmp_path / "other") as second:
        monkeypatch.setenv("AWS_ENDPOINT_URL", first.url)
        with pytest.raises(InputError, match=r"'s3://okay/b\.tar' does not exist"):
            store.stamp("s3://okay/b.tar")
        monkeypatch.setenv("AWS_ENDPOINT_URL", second.url)
        assert store.stamp("s3://okay/b.tar").bytes == 1
        (one,) = helpers(os.getpid())
        assert store.stamp("s3://okay/b.tar").bytes == 1
        assert helpers(os.getpid()) == [one]


def test_what_is_on_its_way_is_not_begun_again_where_settings_change(faulty, store, content, monkeypatch, fresh):
    got = []
    reader = threading.Thread(target=lambda: got.append(read(store.fetch(f"{faulty.url}/slow/a.tar"))))
    reader.start()
    until(lambda: faulty.gets("/slow/a.tar") > 0, 10)
    (before,) = helpers(os.getpid())
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    assert store.stamp(f"{faulty.url}/okay/a.tar").bytes == len(content)
    assert len(helpers(os.getpid())) == 2
    gets = faulty.gets("/slow/a.tar")
    reader.join(20)
    assert got == [content]
    assert faulty.gets("/slow/a.tar") == gets
    until(lambda: before not in helpers(os.getpid()), 3)
