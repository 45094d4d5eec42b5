"""What a user writes for shards, and what it means."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.errors import InputError
from data.shards.manifest import ShardList
from data.shards.pattern import expand
from data.shards.source import Source
from data.shards.summary import Summary
from data.store.cache import Cache
from data.store.store import Store


def test_local(tmp_path, monkeypatch):
    for name in ("s-000000.tar", "s-000001.tar", "s-000002.tar", "t[1].tar", "u{1}.tar", "note.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("s-{000002..000001}.tar").urls == ["s-000002.tar", "s-000001.tar"]
    assert expand("s-*.tar").urls == ["s-000000.tar", "s-000001.tar", "s-000002.tar"]
    assert expand("t[1].tar::s-000001.tar").urls == ["t[1].tar", "s-000001.tar"]
    assert expand("u{1}.tar").urls == ["u{1}.tar"]
    assert expand(["s-000001.tar", "s-*.tar"]).urls == ["s-000001.tar", "s-000000.tar", "s-000002.tar"]
    assert len(expand(str(tmp_path))) == 5
    assert expand("~/s-000000.tar").urls == [str(tmp_path / "s-000000.tar")]
    assert expand(f"file://{tmp_path}/s-00000{{1..2}}.tar").urls == [str(tmp_path / f"s-00000{n}.tar") for n in (1, 2)]
    assert expand(f"file:{tmp_path}/s-*2.tar").urls == [str(tmp_path / "s-000002.tar")]


def test_a_link_to_nowhere_is_a_shard_that_is_missing(tmp_path):
    (tmp_path / "s-0.tar").touch()
    (tmp_path / "s-folder.tar").mkdir()
    (tmp_path / "s-1.tar").symlink_to("/nowhere")
    urls = [str(tmp_path / f"s-{n}.tar") for n in range(2)]
    assert expand(str(tmp_path / "s-*.tar")).urls == urls
    with pytest.raises(InputError, match=r"s-1.tar' cannot be read: No such file or directory"):
        Source("x", str(tmp_path / "s-*.tar"))


def test_remote_names_are_taken_as_they_are():
    assert expand("s3://box/a b/s-{00..02}.tar::az://box/x.tar").urls == [
        "s3://box/a b/s-00.tar",
        "s3://box/a b/s-01.tar",
        "s3://box/a b/s-02.tar",
        "az://box/x.tar",
    ]
    assert expand("https://host/s.tar?a=b&c=[d]").urls == ["https://host/s.tar?a=b&c=[d]"]
    assert expand("s3://box/s.tar").known(0) is None
    assert expand("s3://box/s.tar").samples.tolist() == [-1]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("s-{0..1}.tar", r"'s-\{0..1\}.tar' \('s-0.tar'\) match nothing: '.' holds a.tar$"),
        ("no/deep/*.tar", "'no/deep/.*' match nothing: '.' holds a.tar"),
        ("empty", "'empty' holds nothing"),
        ("ftp://host/a.tar", "unknown scheme 'ftp'; choices: s3, gs, az, http, https, file, pipe, a path"),
        ("http://host/s-*.tar", "http has no listing; name the shards with braces"),
        ("https://host/folder/", "http has no listing"),
        ("pipe:cat a.tar", r"runs a command in a shell; if you trust it.* cache.allowed_pipes=\['pipe:cat a.tar'\]"),
        ("a.tar::", "empty part"),
        ("a{1..2.tar", "unbalanced braces"),
        ([], "no shard pattern"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, pattern, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.tar").touch()
    with pytest.raises(InputError, match=message):
        expand(pattern)


def test_allowed_pipes(tmp_path):
    store = Store(Cache(tmp_path), allowed_pipes=["pipe:cat /x/{0..2}.tar"])
    assert expand("pipe:cat /x/{0..2}.tar", store).urls == [f"pipe:cat /x/{n}.tar" for n in range(3)]
    assert expand("pipe:cat /x/1.tar", store).urls == ["pipe:cat /x/1.tar"]
    with pytest.raises(InputError, match=r"runs a command"):
        expand("pipe:cat /x/3.tar", store)


ROWS = [
    {"shard": "a.tar", "samples": 10, "bytes": 1000, "members": {"jpg": 10, "txt": 9}, "token": "1"},
    {"shard": "s3://box/b.tar", "samples": 7, "bytes": 700, "members": {"jpg": 7, "txt": 6}},
    {"shard": "/c.tar", "samples": 3, "bytes": 300, "members": {"jpg": 3}, "damage": ["it ends early"]},
    {"shard": "sub/d.tar", "samples": 0},
]


def write(path, rows, end="\n"):
    path.write_text(end.join(json.dumps(row) for row in rows) + end)
    return str(path)


def test_a_manifest(tmp_path):
    found = expand(write(tmp_path / "m.jsonl", ROWS))
    assert found.urls == [f"{tmp_path}/a.tar", "s3://box/b.tar", "/c.tar", f"{tmp_path}/sub/d.tar"]
    assert found.samples.tolist() == [10, 7, 3, 0]
    assert found.bytes.tolist() == [1000, 700, 300, -1]
    assert found.known(0) == Summary(10, 1000, {"jpg": 10, "txt": 9})
    assert found.known(1) == Summary(7, 700, {"jpg": 7, "txt": 6})
    assert found.known(2) == Summary(3, 300, {"jpg": 3}, ("it ends early",))
    assert found.known(3) == Summary(0, -1, {})


def test_manifests_join_with_patterns_and_each_shard_is_taken_once(tmp_path):
    (tmp_path / "z.tar").touch()
    one = write(tmp_path / "one.jsonl", ROWS, end="\n\n")  # empty lines are skipped
    two = write(tmp_path / "two.jsonl", [ROWS[2] | {"shard": "y.tar"}, *ROWS[:2]])
    found = expand(f"{tmp_path}/z.tar::{one}::{two}")
    assert [url.rpartition("/")[2] for url in found.urls] == ["z.tar", "a.tar", "b.tar", "c.tar", "d.tar", "y.tar"]
    assert found.known(0) is None
    assert found.known(2) == Summary(7, 700, {"jpg": 7, "txt": 6})
    assert found.known(5) == Summary(3, 300, {"jpg": 3}, ("it ends early",))
    assert found.samples.dtype == found.bytes.dtype == np.int64


def test_summaries_survive_many_batches(tmp_path):
    rows = [
        {"shard": f"{n:06d}.tar", "samples": n, "bytes": n * 3, "members": {"a": n, **({"b": n // 2} if n % 3 else {})}}
        for n in range(10_000)
    ]
    found = expand(write(tmp_path / "m.jsonl", rows))
    assert all(found.known(n) == Summary(n, 3 * n, rows[n]["members"]) for n in range(10_000))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"shard": "a.tar", "samples": 1', 'line 2: not a JSON object: \'{"shard": "a.tar", "samples": 1\''),
        ('{"shard": "a.tar"}', r'shard 2: expected {"shard": name, "samples": number.*}, a name.*, found'),
        ('["a.tar", 3]', "shard 2: expected"),
        ('{"shard": "a.tar", "samples": 1.5}', "no whole number"),
        ('{"shard": "a.tar", "samples": "1"}', "no whole number"),
        ('{"shard": "a.tar", "samples": -1}', "no whole number"),
        ('{"shard": "a.tar", "samples": 1, "members": ["jpg"]}', "shard 2: expected"),
        ('{"shard": "a.tar", "samples": 1, "members": {"jpg": "1"}}', "shard 2: expected"),
        ('{"shard": "a.tar", "samples": 1, "members": {"jpg": 2}}', r"extension: number up to samples}}"),
        ('{"shard": "a.tar", "samples": 1, "members": {"jpg": -1}}', "shard 2: expected"),
        ('{"shard": 3, "samples": 1}', "shard 2: expected"),
        ('{"shard": "ftp://host/a.tar", "samples": 1}', r"a path or URL \(s3, .*pipe\), found .*ftp://host/a.tar"),
        ('{"shard": "", "samples": 1}', r'shard 2: expected {"shard": name,.*, found .*\'shard\': \'\''),
        ('1}, {"a": 1', "line 2: not a JSON object"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    path.write_text('{"shard": "b.tar", "samples": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        expand(str(path))


def test_a_manifest_with_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "m.jsonl", ROWS)
    plain = expand(path)
    (tmp_path / "m.jsonl").write_text((tmp_path / "m.jsonl").read_text(), encoding="utf-8-sig")
    assert (tmp_path / "m.jsonl").read_bytes().startswith(b"\xef\xbb\xbf{")
    assert expand(path).urls == plain.urls
    assert [expand(path).known(n) for n in range(4)] == [plain.known(n) for n in range(4)]


def test_an_empty_manifest(tmp_path):
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"m.jsonl' names no shard"):
        expand(str(tmp_path / "m.jsonl"))


def test_a_long_list_is_small():
    lines = (
        f'{{"shard": "s3://box/s-{n:06d}.tar", "samples": {n}, "bytes": {n}, "members": {{"jpg": {n}}}}}\n'
        for n in range(50_000)
    )
    found = ShardList.join([ShardList.parse(lines, "s3://box/m.jsonl")])
    assert len(found) == 50_000
    assert len(found._profiles) == 1
    assert found.samples.nbytes + found.bytes.nbytes + found._profile.nbytes == 20 * 50_000
