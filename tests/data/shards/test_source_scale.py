"""Shards from afar, and very many of them."""

import pickle
import subprocess
import sys
import textwrap
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data.shards import openshards
from data.shards.source import Source
from data.store.cache import Cache
from data.store.store import Store
from tests.data.shards.tars import USTAR, write


def rows(source):
    return [(s.shard, s.key, s.members) for s in map(source.read, range(len(source)))]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_remote_shards_are_the_same_samples(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(8):
        write(folder / f"s{number}.tar", [f"{number}-{n}.{e}" for n in range(3) for e in ("jpg", "txt")], USTAR)
    expected = rows(Source("x", str(folder)))
    for path in folder.glob("*.idx"):
        path.unlink()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(Cache(tmp_path / "cache", "10MB"))
        source = Source("x", f"http://127.0.0.1:{server.server_port}/s{{0..7}}.tar", store)
        assert rows(source) == expected
        assert len(source._open._open) <= openshards.CACHED_FILES
        assert pickle.loads(pickle.dumps(source)).fingerprint() == source.fingerprint()  # noqa: S301
        store.close()
        server.shutdown()


@pytest.mark.slow
def test_a_million_shards(tmp_path):
    """From a manifest: below 5 seconds and 200 MB on an idle machine; the limit here allows for a busy one."""
    with open(tmp_path / "m.jsonl", "w") as file:
        for n in range(1_000_000):
            file.write(
                f'{{"shard": "data/part-{n:07d}.tar", "samples": 10000, "bytes": 268435456, '
                f'"members": {{"jpg": 10000, "txt": 10000}}, "token": "1700000000{n:09d}"}}\n'
            )
    program = """
        import sys, time
        began = time.perf_counter()
        from data.shards.source import Source
        source = Source("x", sys.argv[1])
        source.require({"image": ("jpg", "png"), "text": ("txt",)})
        seconds = time.perf_counter() - began
        assert len(source) == 10**10
        assert source.place(10**10 - 1) == (999_999, 9_999)
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(seconds, int(peak.split()[1]) / 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "m.jsonl")],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 60
    assert megabytes < 250
