"""Shards that are read from a cache which holds one of them: slower, and the same in every way."""

import gzip
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.store.cache import Cache
from data.store.locks import hold
from data.store.store import Store
from data.stream import Stream
from tests.data.shards.tars import USTAR, write

SAMPLES, SIZE = 20, 5000
ONE = 160_000  # a shard and no two
ALL = 10 * ONE
DEADLINE_S = 5
ROOT = Path(__file__).parents[3]


class OneByOne(RawPrepare):
    """The same without blocks."""

    block_fields = None


def packed(folder: Path, name: str, count: int, random_bytes: int = SIZE) -> str:
    """``count`` shards NAME-*.tar.gz of some 123 kB, unpacked; their pattern."""
    rng = random.Random(name)
    for shard in range(count):
        path = folder / f"{name}-{shard}.tar"
        body = [rng.randbytes(random_bytes) + bytes(SIZE - random_bytes) for _ in range(SAMPLES)]
        write(path, [(f"{name}{shard}-{n:03d}.bin", content) for n, content in enumerate(body)], USTAR)
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 0))
        assert ONE / 2 < path.stat().st_size < ONE
        path.unlink()
    return f"{folder}/{name}-{{0..{count - 1}}}.tar.gz"


def outcome(folder, specs, prepare, workers, size):
    """Contents of all micro-batches of some steps; the cache is never beyond its bound."""
    store = Store(Cache(folder, size), deadline_s=DEADLINE_S)
    tasks = {
        name: TaskData(Stream(name, spec, 0, store=store), prepare, batch_size=7, micro_batch_size=3)
        for name, spec in specs.items()
    }
    for task in tasks.values():  # the process that trains looks at samples too
        assert [task.stream.identity(place)[1] for place in task.stream.locate(np.arange(6))]
    ended, worst = threading.Event(), [0]

    def watch():
        while not ended.wait(0.002):
            with hold(store.cache.place("locks", "cache")):
                found = [entry for kind in ("shards", "parts") for entry in (store.cache.folder / kind).iterdir()]
                worst[0] = max(worst[0], sum(path.stat().st_size for path in found if path.exists()))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        return [
            [(name, batch["size"], contents(batch)) for name, batches in step.tasks.items() for batch in batches]
            for step in StepLoader(tasks, 0, 8, workers=workers)
        ]
    finally:
        ended.set()
        watching.join()
        assert 0 < worst[0] <= store.cache.max_size


def contents(batch):
    buffer = batch["bytes"].numpy().tobytes()
    return [buffer[begin:end] for begin, end in batch["edges"].reshape(-1, 2).tolist()]


@pytest.mark.parametrize("prepare", [RawPrepare(["bin"]), OneByOne(["bin"])], ids=["block", "one by one"])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kind", ["one source", "two tasks", "a mixture", "zeros"])
def test_a_cache_that_holds_one_shard(tmp_path, kind, workers, prepare):
    a, b = packed(tmp_path, "a", 3, 100 if kind == "zeros" else SIZE), packed(tmp_path, "b", 2)
    specs = {
        "one source": {"x": a},
        "two tasks": {"x": a, "y": b},
        "a mixture": {"x": {"a": a, "b": b}},
        "zeros": {"x": a},  # far larger than the room that is set aside for them at first
    }[kind]
    meant = outcome(tmp_path / "large", specs, prepare, 0, ALL)
    begin = time.monotonic()
    assert outcome(tmp_path / "small", specs, prepare, workers, ONE) == meant
    assert time.monotonic() - begin < 30
    left = sorted(path.name for path in (tmp_path / "small").iterdir() if any(path.iterdir()))
    assert left == ["shards"]


def test_damaged_samples_keep_no_shard_open(tmp_path):
    pattern = packed(tmp_path, "a", 2)
    meant = outcome(tmp_path / "large", {"x": pattern}, OneByOne(["bin"]), 0, ALL)
    for path in tmp_path.glob("*.tar.gz"):
        content, stat = bytearray(gzip.decompress(path.read_bytes())), path.stat()
        for sample in range(0, SAMPLES, 5):  # its header: not what the index says
            content[content.index(b"%03d.bin" % sample) + 4] ^= 1
        path.write_bytes(gzip.compress(bytes(content), 0))
        assert path.stat().st_size == stat.st_size
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert outcome(tmp_path / "small", {"x": pattern}, OneByOne(["bin"]), 0, ONE) != meant


RUN = """
import sys, time
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.store.cache import Cache
from data.store.store import Store
from data.stream import Stream

pattern, folder, size = sys.argv[1:]
stream = Stream("x", pattern, 0, store=Store(Cache(folder, size), deadline_s=2))
begin, steps = time.monotonic(), 0
for step in StepLoader({"x": TaskData(stream, RawPrepare(["bin"]), 8, 2)}, 0, 10**9):
    steps += 1
    if time.monotonic() - begin > 5:
        break
print(steps)
"""


def test_runs_that_have_what_they_need_let_others_in(tmp_path):
    """Each reads one shard all the time, and the cache holds one: whoever has it must let the other ones in."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, packed(tmp_path, name, 1), str(tmp_path / "cache"), str(ONE)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for run in runs:
        out, words = run.communicate(timeout=60)
        assert run.returncode == 0, words[-2000:]
        assert int(out) > 3
