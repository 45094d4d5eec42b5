import gzip
import io
import json
import tarfile

import pytest

from data.errors import InputError
from data.store.cache import Cache
from data.store.store import Store
from data.survey import repeats
from data.survey.check import Report, check, members
from pretrain.verbs.shards import main


@pytest.fixture
def store(tmp_path):
    return Store(Cache(tmp_path / "cache"))


def tar(path, names, content=b"x" * 600):
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def report(shards):
    keys = repeats.find([shard.keys for shard in shards], across=True)
    return Report(shards, keys, ["key"] * len(keys.groups))


def test_check_counts_and_finds_damage(tmp_path, store):
    sound = tar(tmp_path / "a.tar", ["1.jpg", "1.cls", "2.jpg", "2.cls", "3.jpg"])
    cut = tar(tmp_path / "b.tar", ["1.jpg", "2.jpg"])
    (tmp_path / "b.tar").write_bytes((tmp_path / "b.tar").read_bytes()[:2048])
    empty = tar(tmp_path / "c.tar", [])
    shards = [check(url, store) for url in (sound, cut, empty)]
    found = report(shards).as_json()
    assert found["samples"] == 4
    assert found["members"] == members(shards) == {"jpg": 4, "cls": 2}
    assert found["damaged"] == [cut, empty]
    first, second, third = found["shards"]
    assert first["lacking"] == {"cls": {"count": 1, "examples": ["3"]}}
    assert (second["samples"], second["damage"]) == (1, ["breaks off inside the member at byte 1536"])
    assert third["damage"] == ["holds no samples"]
    assert found["repeated_keys"] == {"count": 1, "examples": [{"key": "key", "shards": [sound, cut]}]}
    assert not list(tmp_path.glob("*.idx"))


def test_a_picture_of_another_format_is_not_lacking(tmp_path, store):
    names = ["1.png", "1.txt", "2.png", "2.txt", "3.png", "3.txt", "4.jpg", "4.txt"]
    assert check(tar(tmp_path / "a.tar", names), store).lacking == {}
    found = check(tar(tmp_path / "b.tar", [*names, "5.txt"]), store).as_json()
    assert found["lacking"] == {"png or jpg": {"count": 1, "examples": ["5"]}}


def test_keys_that_come_again_in_a_shard(tmp_path, store):
    found = check(tar(tmp_path / "a.tar", ["1.jpg", "2.jpg", "1.jpg", "1.cls"]), store)
    assert (found.samples, found.repeated.count, found.repeated.examples) == (3, 1, ["1#2"])
    assert report([found]).keys.surplus == 0
    assert not report([found]).wrong


def test_keys_across_shards(tmp_path, store):
    shards = [check(tar(tmp_path / f"{n}.tar", [f"{n}.txt", "same.txt"]), store) for n in range(3)]
    found = report(shards).keys
    assert (found.surplus, found.groups) == (2, [[(0, 1), (1, 1), (2, 1)]])


def test_compressed_and_cut_compressed_shards(tmp_path, store):
    plain = tmp_path / "a.tar"
    tar(plain, [f"{n}.txt" for n in range(40)], bytes(range(256)) * 4)
    packed = gzip.compress(plain.read_bytes(), mtime=0)
    (tmp_path / "b.tar.gz").write_bytes(packed)
    (tmp_path / "c.tgz").write_bytes(packed[: len(packed) * 2 // 3])
    sound, cut = (check(str(tmp_path / name), store) for name in ("b.tar.gz", "c.tgz"))
    assert (sound.samples, sound.bytes, sound.damage) == (40, len(packed), [])
    assert 0 < cut.samples < 40
    assert cut.damage


def test_a_shard_that_is_not_there(tmp_path, store):
    with pytest.raises(InputError, match=r"none.tar' cannot be read: No such file"):
        check(str(tmp_path / "none.tar"), store)


def test_a_manifest_that_says_something_else_is_damage(tmp_path, store, capsys):
    tar(tmp_path / "a.tar", ["1.jpg", "2.jpg"])
    size = (tmp_path / "a.tar").stat().st_size
    for told, wrong in (
        ({"samples": 2, "bytes": size}, []),
        ({"samples": 7}, ["its manifest says 7 samples, and it has 2"]),
        ({"samples": 2, "bytes": 9}, [f"its manifest says 9 bytes, and it has {size}"]),
    ):
        (tmp_path / "m.jsonl").write_text(json.dumps({"shard": "a.tar", **told}) + "\n")
        code = main(["check", str(tmp_path / "m.jsonl"), "--json", "--workers", "0"])
        assert (code, json.loads(capsys.readouterr().out)["shards"][0]["damage"]) == (int(bool(wrong)), wrong)
