"""Names of one thing that look like another's."""

import gzip
import json
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from data.errors import InputError
from data.loading import watch
from data.loading.units import describe
from data.pack.report import report_name
from data.shards.manifest import ShardList
from data.shards.pattern import expand
from data.shards.source import Source
from data.store.cache import Cache
from data.store.store import Store
from data.store.url import distinct
from pretrain.cli import main
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
    with pytest.raises(InputError, match=r"empty part in the shard pattern 'a\.tar, '"):
        expand(["a.tar", ""])
    pipes = Store(Cache(tmp_path), allowed_pipes=["pipe:cat a.tar"])
    assert expand("b.tar :: pipe:cat a.tar :: a.tar", pipes).urls == ["b.tar", "pipe:cat a.tar", "a.tar"]
    assert located("http://[::1]/a.tar :: b.tar") == f"http://[::1]/a.tar::{tmp_path}/b.tar"


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A folder with what a run, a packing and an upload leave beside shards."""
    folder = tmp_path / "cl"
    folder.mkdir()
    for name in ("t-0.tar", "t-1.tar"):
        write(folder / name, ["1.txt", "2.txt"])
    for name in (report_name("own"), ".t-2.tar.part", ".t-1.tar.idx.a8_x0001"):
        (folder / name).touch()
    Source("x", str(folder))
    assert (folder / "t-0.tar.idx").exists()
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("pattern", ["cl/*", "**/*", "cl", "cl/t*", "cl/*tar*", "cl/.*::cl/*", "{cl/t-0,cl/t-1}*"])
def test_what_we_write_beside_shards_is_no_shard(mixed, pattern):
    if ".*" in pattern:
        (mixed / ".hidden.tar").write_bytes((mixed / "t-0.tar").read_bytes())
    wanted = [".hidden.tar"] * (".*" in pattern) + ["t-0.tar", "t-1.tar"]
    assert bases(pattern) == wanted
    assert len(Source("x", pattern)) == 2 * len(wanted)  # and again
    assert main(["shards", "index", pattern]) == main(["shards", "index", pattern]) == 0
    assert not list(mixed.rglob("*.idx.idx"))


def test_where_there_is_nothing_else(mixed):
    for path in mixed.glob("*.tar"):
        path.unlink()
    with pytest.raises(InputError, match=r"match nothing: 'cl' holds own-report.json, t-0.tar.idx"):
        expand("cl/*")


def test_packed_shards_beside_those_of_a_folder_are_named(mixed, caplog):
    expand("cl")
    assert not caplog.records
    for name in ("p.tar.gz", "q.tgz"):
        (mixed / name).write_bytes(gzip.compress((mixed / "t-0.tar").read_bytes()))
    assert bases("cl") == ["t-0.tar", "t-1.tar"]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("shards 'cl': a folder means its *.tar; 2 .tar.gz or .tgz are left out (p.tar.gz, q.tgz)")
    assert len(Source("x", "cl/*", Store(Cache(mixed / "cache")))) == 8


def test_a_shard_under_another_spelling_is_taken_once_as_it_was_written_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = str(tmp_path)
    for name in ("g/plain.tar", "g/b.tar", "-.tar", "top.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, ["1.txt"])
    (tmp_path / "g" / "link.tar").symlink_to("plain.tar")
    spellings = ["g/plain.tar", "./g/plain.tar", f"{home}/g/plain.tar", f"file:{home}/g/plain.tar", "g/../g//plain.tar"]
    spellings += [f"//{home}/g/plain.tar", f"file://{home}/g/./plain.tar", "file:g/plain.tar", ".//g/plain.tar"]
    for first in spellings:
        for second in spellings:
            assert expand([first, second]).urls == expand(first).urls
        for second in ("g/b.tar", f"{home}/g/b.tar", "g/link.tar"):
            assert len(expand([first, second])) == len(expand([second, first])) == 2
    assert expand(spellings).urls == ["g/plain.tar"]
    assert expand(["g/link.tar", *spellings[1:]]).urls == ["g/link.tar", "./g/plain.tar"]
    assert len(Source("x", ["g/*.tar", "./g", home, f"{home}/*.tar", "-.tar"])) == 5
    assert expand(["-.tar", f"{home}/g/b.tar", "g/b.tar"]).urls == ["-.tar", f"{home}/g/b.tar"]  # sorted
    for names in (["mid.tar", "./mid.tar"], ["./mid.tar", "mid.tar"], ["mid.tar", "sub/../mid.tar"], ["a//b", "a/b"]):
        (tmp_path / "m.jsonl").write_text("".join(json.dumps({"shard": n, "samples": 2}) + "\n" for n in names))
        for place in ("m.jsonl", f"{home}/m.jsonl"):
            found = expand(place)
            assert (found.urls, found.samples.tolist()) == ([place.removesuffix("m.jsonl") + names[0]], [2])


def test_what_differs_is_not_one():
    for names in (["s3://b/x//a.tar", "s3://b/x/a.tar"], ["https://h/./a.tar", "https://h/a.tar"]):
        assert expand(names).urls == names
    for names in (["/x/a.tar", "a.tar"], ["a.tar", "s3://a.tar"], ["x", "x.tar"]):
        assert ShardList.join([ShardList(names)]).urls == names


def test_a_million_sorted_names_are_told_apart_without_a_set():
    for folder in ("", "sub/", "/data/", "s3://box/"):
        names = [f"{folder}part-{n:07d}.tar" for n in range(1_000_000)]
        began = time.process_time()
        assert distinct(names)
        assert time.process_time() - began < 2  # 0.1 on an idle machine
    assert ShardList.join([ShardList([])]).urls == []
    names[500_000] = "s3://box/part-0499999.tar/../part-0500000.tar"
    assert ShardList.join([ShardList(names)]).urls is names
