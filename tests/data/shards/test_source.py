import contextlib
import gc
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.errors import InputError, SampleError
from data.shards import openshards
from data.shards.source import Source
from tests.data.shards.tars import USTAR, write


def shard(path, keys, extensions=("jpg", "txt")):
    return write(path, [(f"{k}.{e}", f"{k} {e} ".encode() * 50) for k in keys for e in extensions], USTAR)


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        shard(tmp_path / f"s{number}.tar", [f"{number}-{n}" for n in range(number + 1)])
    return tmp_path


def rows(source):
    return [(s.shard, s.key, s.members) for s in map(source.read, range(len(source)))]


def manifest(path, folder, **changes):
    lines = []
    for number, name in enumerate(sorted(p.name for p in folder.glob("*.tar"))):
        count = number + 1
        row = {"shard": name, "samples": count, "bytes": 10, "members": {"jpg": count, "txt": count}, "token": "t"}
        lines.append(json.dumps(row | changes.get(name[:-4], {})))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_samples_are_numbered_shard_after_shard(folder):
    source = Source("x", str(folder))
    assert len(source) == 10
    assert source.counts.tolist() == [1, 2, 3, 4]
    assert source.bytes.tolist() == [os.path.getsize(url) for url in source.urls]
    assert [source.place(n) for n in (0, 1, 2, 3, 9)] == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 3)]
    expected = [(f"s{s}.tar", f"{s}-{n}") for s in range(4) for n in range(s + 1)]
    assert [source.identity(n) for n in range(10)] == expected
    for (name, key, members), (wanted_name, wanted_key) in zip(rows(source), expected, strict=True):
        assert (name, key) == (wanted_name, wanted_key)
        assert members == {e: f"{key} {e} ".encode() * 50 for e in ("jpg", "txt")}
    assert source.damage == []
    assert source.listing() == [(f"s{n}.tar", n + 1, os.path.getsize(folder / f"s{n}.tar")) for n in range(4)]


def test_with_a_manifest_shards_are_not_touched_before_they_are_read(folder, tmp_path):
    place = manifest(folder / "m.jsonl", folder)
    os.rename(folder / "s3.tar", folder / "away")
    source = Source("x", place)
    assert len(source) == 10
    source.require({"image": ("jpg", "png"), "text": ("txt",)})
    assert not list(folder.glob("*.idx"))
    assert source.read(0).key == "0-0"
    assert [path.name for path in folder.glob("*.idx")] == ["s0.tar.idx"]
    with pytest.raises(SampleError, match=r"s3.tar' cannot be read: No such file"):
        source.read(9)
    assert source.identity(9) == ("s3.tar", "(sample 3)")
    os.rename(folder / "away", folder / "s3.tar")
    assert source.read(9).key == "3-3"


def test_a_manifest_that_is_not_true_any_more(folder):
    source = Source("x", manifest(folder / "m.jsonl", folder, s1={"samples": 5, "members": {"jpg": 5, "txt": 5}}))
    with pytest.raises(SampleError, match="holds 2 samples, its manifest says 5"):
        source.read(1)


def test_what_a_manifest_leaves_open_is_looked_up(folder):
    source = Source("x", manifest(folder / "m.jsonl", folder, s1={"members": {}}, s2={"members": {"jpg": 2, "txt": 3}}))
    source.require({"text": ("txt",)})
    assert sorted(path.name for path in folder.glob("*.idx")) == ["s1.tar.idx"]
    source.require({"image": ("jpg",)})
    assert sorted(path.name for path in folder.glob("*.idx")) == ["s1.tar.idx", "s2.tar.idx"]


def test_a_sample_without_what_a_task_needs_is_named(tmp_path):
    shard(tmp_path / "a.tar", ["k1", "k2"])
    write(tmp_path / "b.tar", ["k3.jpg", "k3.txt", "d/k4.jpg", "d/k4.json", "k5.png", "k5.txt"])
    source = Source("x", str(tmp_path))
    source.require({"image": ("jpg", "png")})
    with pytest.raises(InputError) as caught:
        source.require({"image": ("jpg", "png"), "text": ("txt",)})
    assert str(caught.value) == (
        f"source 'x': 1 of 3 samples of '{tmp_path}/b.tar' have no text member (txt); 'd/k4' has: jpg, json"
    )


def test_a_shard_that_breaks_off_gives_its_complete_samples(folder):
    whole = (folder / "s3.tar").read_bytes()
    (folder / "s3.tar").write_bytes(whole[:3600])
    source = Source("x", str(folder))
    assert source.counts.tolist() == [1, 2, 3, 1]
    assert source.damage == [
        f"shard '{folder}/s3.tar': breaks off inside the member at byte 3072 (bytes 3072 to 3599); '3-1' "
        "lost a member there and is left out (1 samples are readable)"
    ]
    source.require({"image": ("jpg",), "text": ("txt",)})
    assert source.read(6).key == "3-0"


def test_beside_damage_require_is_lenient(tmp_path):
    path = write(tmp_path / "a.tar", ["k1.jpg", "k1.txt", "k2.jpg", "k2.txt"], USTAR)
    content = bytearray(path.read_bytes())
    content[1024 + 3] ^= 1  # k1.txt; no other sample away from damage says that it is missing
    path.write_bytes(content)
    source = Source("x", str(path))
    source.require({"image": ("jpg",), "text": ("txt",)})
    assert [sorted(source.read(n).members) for n in range(2)] == [["jpg"], ["jpg", "txt"]]
    assert source.damage == [
        f"shard '{path}': no tar header at byte 1024 (bytes 1024 to 2047) (2 samples are readable)"
    ]


@pytest.mark.parametrize(("content", "why"), [(b"", r"is empty$"), (b"x" * 999, r"is empty \(no tar header at byte 0")])
def test_a_shard_without_samples_is_refused(tmp_path, content, why):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=why):
        Source("x", str(tmp_path / "a.tar"))


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"source 'x': .*match nothing"):
        Source("x", str(tmp_path / "*.tar"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_shard_that_may_not_be_read(folder):
    os.chmod(folder / "s1.tar", 0)
    with pytest.raises(InputError, match=r"source 'x': shard '.*s1.tar' cannot be read: Permission denied"):
        Source("x", str(folder))


def test_the_fingerprint_is_of_names_counts_and_sizes(folder, tmp_path_factory):
    first = Source("x", str(folder)).fingerprint()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in folder.glob("*.tar"):
        os.link(path, elsewhere / path.name)
    assert Source("y", str(elsewhere)).fingerprint() == first
    given = sorted(map(str, elsewhere.glob("*.tar")))
    assert Source("y", given).fingerprint() == first
    assert Source("y", given[::-1]).fingerprint() != first  # another order of shards is another order of samples
    shard(elsewhere / "s4.tar", ["x"])
    assert Source("y", str(elsewhere)).fingerprint() != first


def test_an_edit_in_place_is_noticed(folder):
    source = Source("x", str(folder / "s1.tar"))
    assert source.read(0).key == "1-0"
    with open(folder / "s1.tar", "r+b") as file:  # while it is open: the header tells
        file.seek(0)
        file.write(b"z-0.cls\0")
    with pytest.raises(SampleError, match="is not what its index says"):
        source.read(0)
    assert source.read(1).key == "1-1"
    source.close()  # when it is opened again: the time tells
    with pytest.raises(SampleError, match="was changed while it was in use"):
        source.read(1)


def test_few_shards_are_open_at_once_and_all_are_read(tmp_path, monkeypatch):
    for number in range(12):
        shard(tmp_path / f"s{number:02}.tar", [f"{number}-{n}" for n in range(3)])
    monkeypatch.setattr(openshards, "FILES", 4)
    monkeypatch.setattr(openshards, "INDEX_BYTES", 3 * Source("x", str(tmp_path / "s00.tar"))._open(0).index.nbytes)
    source = Source("x", str(tmp_path))

    def descriptors() -> int:  # of these shards: those of other tests may close at any time
        gc.collect()
        found = 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing
                found += os.readlink(f"/proc/self/fd/{name}").startswith(str(tmp_path))
        return found

    before = descriptors()
    order = np.random.default_rng(0).integers(0, len(source), 500)
    for number in order.tolist():
        assert source.read(number).key == f"{number // 3}-{number % 3}"
    assert 4 <= descriptors() - before <= 2 * 4  # one for reading, one of the mapping
    assert len(source._open._open) <= 4
    assert len(source._open._indexes) == 3
    source.close()
    assert descriptors() == before


def test_threads_may_share_a_source(tmp_path, monkeypatch):
    for number in range(8):
        shard(tmp_path / f"s{number}.tar", [f"{number}-{n}" for n in range(3)])
    monkeypatch.setattr(openshards, "FILES", 2)
    source = Source("x", str(tmp_path))
    order = np.random.default_rng(0).integers(0, len(source), 4000).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: source.read(n).key, order))
    assert found == [f"{n // 3}-{n % 3}" for n in order]


def test_another_process_opens_its_own(folder):
    source = Source("x", str(folder))
    expected = rows(source)
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert rows(copy) == expected
    assert copy.fingerprint() == source.fingerprint()
    child = os.fork()
    if not child:
        os._exit(rows(source) != expected)
    assert os.waitpid(child, 0)[1] == 0
    assert rows(source) == expected
