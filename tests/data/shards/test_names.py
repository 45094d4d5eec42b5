"""Names of one thing that look like another's."""

import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from data.errors import InputError
from data.loading import watch
from data.loading.units import describe
from data.shards.pattern import expand
from data.shards.source import Source
from data.store.cache import Cache
from data.store.store import Store
from pretrain.embedding.asked import located
from tests.data.shards.tars import write

SIGNED = "?X-Signature=a/b*c&X-Expires=9"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serving(folder, store):
    """URL of a server of ``folder``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        store.close()
        server.shutdown()


@pytest.fixture
def store(tmp_path):
    return Store(Cache(tmp_path / "cache"))


def bases(pattern):
    return [url.rpartition("/")[2] for url in expand(pattern).urls]


def test_a_signed_url_is_what_its_path_ends_with(tmp_path, store):
    folder = tmp_path / "served"
    folder.mkdir()
    write(folder / "a.tar", ["1.txt", "2.txt"])
    (folder / "all.jsonl").write_text(json.dumps({"shard": "a.tar", "samples": 2}) + "\n")
    with serving(folder, store) as host:
        source = Source("x", f"{host}/all.jsonl{SIGNED}", store)
        assert source.urls == [f"{host}/a.tar"]
        assert [source.read(n).key for n in range(2)] == ["1", "2"]
        with pytest.raises(InputError, match=r"http has no listing"):
            expand(f"{host}/{SIGNED}", store)
        signed = Source("x", f"{host}/a.tar{SIGNED}", store)
        tasks = {"t": SimpleNamespace(stream=SimpleNamespace(sources=[signed]))}
        seat = watch.seats(1)[0]
        seat.note(watch.PREPARING, 0, 2)
        seat.reading(0, 0, 1, 0)
        assert "of shard 'a.tar' for" in describe(seat.doing(), tasks)
        assert "Signature" not in describe(seat.doing(), tasks)


def test_parts_are_split_outside_of_brackets_and_without_blanks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.tar", "b.tar", "t[1].tar", "t1.tar"):
        (tmp_path / name).touch()
    hosts = [
        "http://[::1]:8766/one.tar",
        "https://me@[2001:db8::8a2e:370:7334]/{0..1}.tar",
        "http://[fe80::1%25eth0]/x.tar",
    ]
    assert expand("::".join(hosts)).urls == [
        hosts[0],
        "https://me@[2001:db8::8a2e:370:7334]/0.tar",
        "https://me@[2001:db8::8a2e:370:7334]/1.tar",
        hosts[2],
    ]
    assert expand(" b.tar :: a.tar").urls == ["b.tar", "a.tar"]
    assert expand("t[1].tar::b.tar").urls == ["t[1].tar", "b.tar"]
    assert expand("t[12].tar::b.tar").urls == ["t1.tar", "b.tar"]
    with pytest.raises(InputError, match="empty part"):
        expand("a.tar :: ")
    pipes = Store(Cache(tmp_path), allowed_pipes=["pipe:cat a.tar"])
    assert expand("b.tar :: pipe:cat a.tar :: a.tar", pipes).urls == ["b.tar", "pipe:cat a.tar", "a.tar"]
    assert located("http://[::1]/a.tar :: b.tar") == f"http://[::1]/a.tar::{tmp_path}/b.tar"
