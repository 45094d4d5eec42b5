"""The cache: bound, order of eviction, what is open, what is left over, what is packed."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import shutil
import tarfile
import threading
import time

import pytest

from data.errors import InputError, RunError
from data.store import locks
from data.store.bytesize import parse_size
from data.store.cache import Cache
from data.store.store import Store
from tests.data.store.conftest import SIZE, files, read


@pytest.fixture
def shards(served, content):
    """Contents of ``0.tar`` to ``5.tar``."""
    found = [content[n:] + content[:n] for n in range(6)]
    for n, one in enumerate(found):
        (served / f"{n}.tar").write_bytes(one)
    return found


@pytest.fixture
def small(tmp_path, faulty, fresh):
    """A store whose cache holds three shards."""
    made = Store(Cache(tmp_path / "small", 3 * SIZE + 100), deadline_s=1)
    yield made
    made.close()


def test_the_least_recently_used_goes(small, faulty, shards):
    url = f"{faulty.url}/okay/{{}}.tar".format
    for n in (0, 1, 2, 0, 3):
        assert read(small.fetch(url(n))) == shards[n]
    assert [small.holds(url(n)) for n in range(4)] == [True, False, True, True]
    assert read(small.fetch(url(0))) == shards[0]
    assert faulty.gets("/okay/0.tar") == 1


def test_what_is_open_stays(small, faulty, shards):
    url = f"{faulty.url}/okay/{{}}.tar".format
    descriptor = small.fetch(url(0))
    for n in (1, 2, 3, 4, 5):
        assert read(small.fetch(url(n))) == shards[n]
    assert small.holds(url(0))
    assert read(descriptor) == shards[0]


def test_all_open_is_an_error_in_bounded_time(small, faulty, shards):
    url = f"{faulty.url}/okay/{{}}.tar".format
    opened = [small.fetch(url(n)) for n in range(3)]
    begin = time.monotonic()
    with pytest.raises(InputError) as error:
        small.fetch(url(3))
    assert str(error.value) == (
        f"cache.max_size, {3 * SIZE + 100} bytes, is too small: a shard needs {SIZE} bytes, and others in "
        f"'{small.cache.folder}' were in use for 1 s: 3 open ({3 * SIZE} bytes), 0 in the making (0 bytes); raise it"
    )
    assert time.monotonic() - begin < 30
    threading.Timer(0.3, os.close, [opened[1]]).start()  # one that is closed meanwhile makes room
    assert read(small.fetch(url(3))) == shards[3]
    os.close(opened[0])
    os.close(opened[2])


def test_too_small_for_one_shard(tmp_path, faulty, fresh):
    store = Store(Cache(tmp_path / "tiny", SIZE - 1), deadline_s=1)
    with pytest.raises(InputError, match=f"cache.max_size, {SIZE - 1} bytes, is smaller than a shard of {SIZE} bytes"):
        store.fetch(f"{faulty.url}/okay/a.tar")


def test_leftovers_of_the_dead_are_swept(small, faulty, shards):
    small.cache.prepare()
    part = small.cache.place("parts", f"{'0' * 32}.{3 * SIZE}.dead")
    part.write_bytes(b"x" * 1000)
    small.cache.place("locks", "cache").touch()  # its holder died
    assert read(small.fetch(f"{faulty.url}/okay/0.tar")) == shards[0]
    assert list(files(small.cache.folder)) == ["shards"]


def test_a_damaged_folder_is_one_line(tmp_path, faulty, fresh):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cache.folder '.*file/below' cannot be made: Not a directory"):
        Store(Cache(tmp_path / "file" / "below", "1GB")).fetch(f"{faulty.url}/okay/a.tar")


@pytest.mark.parametrize(
    ("text", "size"), [("50GB", 50 * 10**9), ("1.5 MiB", 3 << 19), (12, 12), ("7", 7), ("2t", 2 * 10**12)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5 gigs", "-1", "0", "1e9", "5i"])
def test_no_sizes(text):
    with pytest.raises(InputError, match=r"is no size; write e.g. 50GB"):
        parse_size(text)


def test_local_shards_are_read_where_they_are(tmp_path, content):
    path = tmp_path / "a b%41.tar"
    path.write_bytes(content)
    store = pickle.loads(pickle.dumps(Store(Cache(tmp_path / "cache"))))  # noqa: S301
    for name in (str(path), path.as_uri()):
        assert read(store.fetch(name)) == content
        assert store.stamp(name).bytes == SIZE
        assert store.stamp(name).token == str(path.stat().st_mtime_ns)
        assert not store.remote(name)
        assert store.holds(name)
        assert store.index_places(name)[0] == tmp_path / "a b%41.tar.idx"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match=r"none.tar' cannot be read: No such file"):
        store.fetch(str(tmp_path / "none.tar"))


def tar(samples: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for n in range(samples):
            member = tarfile.TarInfo(f"{n:04d}.txt")
            member.size = 900
            file.addfile(member, io.BytesIO(os.urandom(900)))
    return buffer.getvalue()


@pytest.mark.parametrize("where", ["local", "remote"])
def test_packed_shards(tmp_path, served, faulty, store, where, fresh):
    plain = tar(300)
    (served / "p.tar.gz").write_bytes(gzip.compress(plain))
    (served / "q.tgz").write_bytes(gzip.compress(plain[:100_000]) + gzip.compress(plain[100_000:]) + b"\0" * 512)
    (served / "cut.tar.gz").write_bytes(gzip.compress(plain)[:150_000])
    (served / "tail.tar.gz").write_bytes(gzip.compress(plain) + b"junk")
    bad = bytearray(gzip.compress(plain))
    bad[-6] ^= 1
    (served / "sum.tar.gz").write_bytes(bad)
    (served / "none.tar.gz").write_bytes(plain)
    folder = f"{faulty.url}/okay" if where == "remote" else str(served)
    for name in ("p.tar.gz", "q.tgz"):
        assert read(store.fetch(f"{folder}/{name}")) == plain
        assert store.note(f"{folder}/{name}") == ""
        assert store.stamp(f"{folder}/{name}").bytes == (served / name).stat().st_size
    got = read(store.fetch(f"{folder}/cut.tar.gz"))
    assert plain.startswith(got)
    assert len(got) > 120_000
    assert store.note(f"{folder}/cut.tar.gz") == f"the gzip file ends early; {len(got)} bytes could be unpacked"
    assert read(store.fetch(f"{folder}/tail.tar.gz")) == plain
    assert "follow the end of the gzip file" in store.note(f"{folder}/tail.tar.gz")
    assert read(store.fetch(f"{folder}/sum.tar.gz")) == plain
    assert "incorrect data check" in store.note(f"{folder}/sum.tar.gz")
    with pytest.raises(InputError, match=r"none.tar.gz' is named as gzip, and is none"):
        store.fetch(f"{folder}/none.tar.gz")
    assert set(files(store.cache.folder)) == {"shards", "notes"}
    if where == "local":
        (served / "p.tar.gz").write_bytes(gzip.compress(plain[:10240]))
        os.utime(served / "p.tar.gz", ns=(1, 1))
        assert read(store.fetch(f"{folder}/p.tar.gz")) == plain[:10240]


def test_a_gzip_bomb_ends_at_the_bound(tmp_path):
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    store = Store(Cache(tmp_path / "cache", "10MB"), deadline_s=1)
    with pytest.raises(InputError, match=r"b.tar.gz' gives more than cache.max_size, 10000000 bytes"):
        store.fetch(str(tmp_path / "b.tar.gz"))
    assert files(tmp_path / "cache") == {}


def test_pipes(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    good, bad, mute = f"pipe:cat {tmp_path}/a.tar", "pipe:echo one; echo no luck >&2; exit 3", "pipe:sleep 60"
    with pytest.raises(InputError, match=r"runs a command in a shell; .*cache.allowed_pipes=\['pipe:cat"):
        Store(Cache(tmp_path / "cache")).fetch(good)
    store = Store(Cache(tmp_path / "cache", "10MB"), deadline_s=1, allowed_pipes=[good, bad, mute])
    assert read(store.fetch(good)) == content
    assert store.stamp(good).bytes == SIZE
    os.unlink(tmp_path / "a.tar")
    assert read(store.fetch(good)) == content  # once
    with pytest.raises(RunError, match=r"ended with exit code 3: no luck"):
        store.fetch(bad)
    with pytest.raises(RunError, match=r"was silent for 1 s"):
        store.fetch(mute)
    assert list(files(tmp_path / "cache")) == ["shards"]


def test_a_pipe_where_many_files_are_open(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    url = f"pipe:cat {tmp_path}/a.tar"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 1200:
        pytest.skip("the host allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1200), limits[1]))
    others = []
    try:
        while not others or others[-1] < 1030:
            others.append(os.open(os.devnull, os.O_RDONLY))
        assert read(Store(Cache(tmp_path / "cache", "10MB"), allowed_pipes=[url]).fetch(url)) == content
    finally:
        for one in others:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_pipe_is_another_one_in_another_folder(tmp_path, monkeypatch):
    url = "pipe:cat x.tar"
    store = Store(Cache(tmp_path / "cache", "10MB"), deadline_s=1, allowed_pipes=[url])
    places = []
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.tar").write_bytes(name.encode() * 1024)
        monkeypatch.chdir(tmp_path / name)
        assert not store.holds(url)
        assert read(store.fetch(url)) == name.encode() * 1024
        places.append(store.index_places(url)[-1])
    assert places[0] != places[1]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount a small disk")
def test_a_full_disk_is_one_line(tmp_path, faulty, served, fresh):
    (served / "p.tar.gz").write_bytes(gzip.compress(bytes(3_000_000)))
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m none {disk} 2>/dev/null"):
        pytest.skip("may not mount")
    try:
        store = Store(Cache(disk, "1GB"), deadline_s=2)
        with pytest.raises(RunError, match=r"okay/a.tar' cannot be written into the cache: No space left on device"):
            store.fetch(f"{faulty.url}/okay/a.tar")
        with pytest.raises(RunError, match=r"cache '.*disk' cannot be written: No space left on device"):
            store.fetch(str(served / "p.tar.gz"))
        assert files(disk) == {}
    finally:
        os.system(f"umount {disk}")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs the right to mount")
def test_a_filled_cache_that_is_only_read(tmp_path, faulty, content, fresh):
    folder, url = tmp_path / "filled", f"{faulty.url}/okay/a.tar"
    assert read(Store(Cache(folder, "20MB"), deadline_s=2).fetch(url)) == content
    Cache(folder).place("locks", "room").touch()  # somebody stood in line when it was copied
    if os.system(f"mount --bind {folder} {folder} 2>/dev/null && mount -o remount,bind,ro {folder}"):
        pytest.skip("may not mount")
    try:
        store = Store(Cache(folder, "20MB"), deadline_s=2)
        assert read(store.fetch(url)) == content
        with pytest.raises(InputError, match=r"cache.folder '.*filled' cannot be written"):
            store.fetch(str(faulty.url) + "/slow/a.tar")
    finally:
        os.system(f"umount {folder}")


def test_a_cache_without_room_for_a_lock_is_one_line(tmp_path):
    cache = Cache(tmp_path)
    cache.prepare()
    cache.place("locks", "here").mkdir()
    with pytest.raises(RunError, match=f"cache '{tmp_path}' cannot be written: Is a directory"):
        cache.get("here", 10, lambda part: None, 1)
    cache.place("shards", "there").symlink_to("there")
    with pytest.raises(RunError, match=f"cache '{tmp_path}' cannot be read: Too many levels"):
        cache.open("there")


def test_a_lock_is_held_once(tmp_path):
    inside, worst = 0, 0

    def work() -> None:
        nonlocal inside, worst
        for _ in range(100):
            with locks.hold(tmp_path / "lock"):
                inside += 1
                worst = max(worst, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert worst == 1
    assert list(tmp_path.iterdir()) == []
