"""WebDataset tars as they are found, each with the exact samples that it must give."""

import io
import json
import tarfile

import pytest
import webdataset

from data.shards import index
from tests.data.shards.tars import GNU, PAX, USTAR, content, samples, write

LONG = "folder/" + "k" * 150


def given(*names, begin=0):
    return {name: content(name, begin + number) for number, name in enumerate(names)}


def keys(path):
    return [key for key, _ in samples(path)]


def whole(path):
    assert index.scan(path).summary.damage == ()


def test_webdatasets_own_writer(tmp_path):
    """It writes a PAX header with the time before each member."""
    expected = []
    with webdataset.TarWriter(str(tmp_path / "s.tar"), encoder=False) as writer:
        for n in range(5):
            members = {"jpg": b"J" * (n * 300), "seg.png": b"P" * n, "json": b"{}"}
            writer.write({"__key__": f"dir/{n:06d}", **members})
            expected.append((f"dir/{n:06d}", members))
    assert b"mtime=" in (tmp_path / "s.tar").read_bytes()
    assert samples(tmp_path / "s.tar") == expected
    whole(tmp_path / "s.tar")


def test_img2dataset(tmp_path):
    """Nine digits of shard and sample; jpg, json and txt; samples without caption have no txt."""
    expected = []
    with tarfile.open(tmp_path / "00003.tar", "w") as tar:
        for n in range(6):
            key, members = f"00003{n:04d}", {"jpg": bytes([n]) * 900, "json": json.dumps({"key": n}).encode()}
            if n % 2:
                members["txt"] = f"caption {n} ü".encode()
            for extension, data in sorted(members.items()):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size, info.mtime, info.uname, info.mode = len(data), 1700000000.25, "bigdata", 0o444
                tar.addfile(info, io.BytesIO(data))
            expected.append((key, members))
    assert samples(tmp_path / "00003.tar") == expected
    assert index.scan(tmp_path / "00003.tar").summary.members == {"jpg": 6, "json": 6, "txt": 3}
    whole(tmp_path / "00003.tar")


@pytest.mark.parametrize("format", [GNU, PAX])
def test_long_names(tmp_path, format):
    names = [LONG + ".jpg", LONG + ".txt", "short.jpg", "short.txt", LONG + "2.jpg", LONG + "2." + "e" * 120]
    path = write(tmp_path / "s.tar", names, format)
    data = given(*names)
    assert samples(path) == [
        (LONG, {"jpg": data[names[0]], "txt": data[names[1]]}),
        ("short", {"jpg": data[names[2]], "txt": data[names[3]]}),
        (LONG + "2", {"jpg": data[names[4]], "e" * 120: data[names[5]]}),
    ]
    whole(path)


def test_names_split_over_the_prefix(tmp_path):
    names = ["p" * 80 + "/" + "q" * 60 + ".jpg", "p" * 80 + "/" + "q" * 60 + ".txt"]
    path = write(tmp_path / "s.tar", names, USTAR)
    data = given(*names)
    assert samples(path) == [("p" * 80 + "/" + "q" * 60, {"jpg": data[names[0]], "txt": data[names[1]]})]


def test_folders_dots_and_leading_dot_slash(tmp_path):
    folder = tarfile.TarInfo("./train")
    folder.type = tarfile.DIRTYPE
    names = ["./train/a.jpg", "./train/a.seg.PNG", "train.v1/a.jpg", "./b.JPG", "b.txt", "/abs/c.jpg", "../up/d.jpg"]
    path = write(tmp_path / "s.tar", [folder, *names])
    data = given(*names, begin=1)
    assert samples(path) == [
        ("train/a", {"jpg": data["./train/a.jpg"], "seg.png": data["./train/a.seg.PNG"]}),
        ("train.v1/a", {"jpg": data["train.v1/a.jpg"]}),
        ("b", {"jpg": data["./b.JPG"], "txt": data["b.txt"]}),
        ("/abs/c", {"jpg": data["/abs/c.jpg"]}),
        ("../up/d", {"jpg": data["../up/d.jpg"]}),
    ]


def test_interleaved_members_meet_in_one_sample(tmp_path):
    names = ["a.jpg", "b.jpg", "c.jpg", "a.txt", "c.txt", "b.txt"]
    data = given(*names)
    path = write(tmp_path / "s.tar", names)
    assert samples(path) == [(k, {"jpg": data[f"{k}.jpg"], "txt": data[f"{k}.txt"]}) for k in "abc"]


def test_far_apart_members_meet_too(tmp_path):
    members = [("a.jpg", b"1"), ("big.bin", bytes(9 * 2**20)), ("a.txt", b"2")]
    assert samples(write(tmp_path / "s.tar", members))[0] == ("a", {"jpg": b"1", "txt": b"2"})


def test_a_key_that_comes_again_begins_another_sample(tmp_path):
    names = ["a.jpg", "a.txt", "b.jpg", "a.jpg", "a.txt", "b.txt", "a.txt", "a.jpg", "a.JPG"]
    path = write(tmp_path / "s.tar", names)
    c = [content(name, n) for n, name in enumerate(names)]
    assert samples(path) == [
        ("a", {"jpg": c[0], "txt": c[1]}),
        ("b", {"jpg": c[2], "txt": c[5]}),
        ("a#2", {"jpg": c[3], "txt": c[4]}),
        ("a#3", {"txt": c[6], "jpg": c[7]}),
        ("a#4", {"jpg": c[8]}),
    ]
    assert index.scan(path).summary.samples == 5
    whole(path)


def test_two_archives_end_to_end(tmp_path):
    first = write(tmp_path / "a.tar", ["a.jpg", "a.txt", "b.jpg"]).read_bytes()
    second = write(tmp_path / "b.tar", ["c.jpg", "a.jpg"]).read_bytes()
    path = tmp_path / "s.tar"
    path.write_bytes(first + second)
    assert keys(path) == ["a", "b", "c", "a#2"]
    whole(path)


def test_what_macos_and_old_tars_add_makes_no_sample(tmp_path):
    names = ["._a.jpg", "a.jpg", "__MACOSX/._a.jpg", "__MACOSX/b.jpg", ".DS_Store", "d/.DS_Store", "d/._b.txt"]
    names += ["d/PaxHeaders.1234/b.txt", "PaxHeader/c.txt", "x/__MACOSX/y.jpg", "a.txt", "README", "dot.", "d/b.txt"]
    path = write(tmp_path / "s.tar", names)
    assert [(key, sorted(members)) for key, members in samples(path)] == [("a", ["jpg", "txt"]), ("d/b", ["txt"])]
    whole(path)


def test_names_that_only_look_like_notes_stay(tmp_path):
    names = ["my__MACOSX/a.jpg", "__MACOSX2/b.jpg", "PaxHeaders.x/c.jpg", "__MACOSX.jpg"]
    assert keys(write(tmp_path / "s.tar", names)) == ["my__MACOSX/a", "__MACOSX2/b", "PaxHeaders.x/c", "__MACOSX"]


def test_empty_members(tmp_path):
    path = write(tmp_path / "s.tar", [("a.jpg", b""), ("a.txt", b""), ("b.txt", b"x"), ("c.txt", b"")])
    assert samples(path) == [("a", {"jpg": b"", "txt": b""}), ("b", {"txt": b"x"}), ("c", {"txt": b""})]


def test_nothing_but_the_end(tmp_path):
    path = write(tmp_path / "s.tar", [])
    assert samples(path) == []
    whole(path)


def pairs(count, format=USTAR):
    return [(f"k{n}.{e}", bytes([65 + n]) * 700) for n in range(count) for e in ("jpg", "txt")]


@pytest.mark.parametrize("length", range(0, 10 * 3 * 1024 + 1, 256))
def test_cut_anywhere_it_gives_its_complete_samples(tmp_path, length):
    """Ten samples of two members; each member takes a header and two blocks."""
    path = write(tmp_path / "s.tar", pairs(10), USTAR)
    path.write_bytes(path.read_bytes()[:length])
    found = index.scan(path)
    complete = [(f"k{n}", {e: bytes([65 + n]) * 700 for e in ("jpg", "txt")}) for n in range(10)]
    # The last member is all there once its 700 bytes are, even where the zeros behind them are not.
    count = sum(n * 3072 + 2048 + 700 <= length for n in range(10))
    rows = samples(path)
    if count:
        assert rows[:count] == complete[:count]
    if count > 1:
        assert rows == complete[:count]
    if length % 3072 and length != 1536:  # not between two samples, and one member alone may be a sample
        assert len(found.summary.damage) == 1
    if length % 3072 > 1536 and count > 1:
        assert f"'k{count}'" in found.summary.damage[0] or len(rows) == count


def test_a_sample_that_lost_a_member_is_left_out_and_named(tmp_path):
    whole = bytearray(write(tmp_path / "s.tar", pairs(6), USTAR).read_bytes())
    path = tmp_path / "s.tar"
    for member, key in ((4, "k2"), (5, "k2"), (0, "k0"), (11, "k5")):
        damaged = bytearray(whole)
        damaged[member * 1536 + 130] ^= 4
        path.write_bytes(damaged)
        found = index.scan(path)
        assert [k for k, _ in samples(path)] == [f"k{n}" for n in range(6) if f"k{n}" != key]
        (line,) = found.summary.damage
        assert f"no tar header at byte {member * 1536}" in line
        assert f"'{key}' lost a member there and is left out" in line


def test_beside_damage_a_sample_that_may_be_whole_stays(tmp_path):
    """No sample away from damage tells what is missing: what a task needs is found out when it reads."""
    path = write(tmp_path / "s.tar", pairs(2), USTAR)
    damaged = bytearray(path.read_bytes())
    damaged[1536 + 130] ^= 4
    path.write_bytes(damaged)
    found = index.scan(path)
    assert [(key, sorted(members)) for key, members in samples(path)] == [("k0", ["jpg"]), ("k1", ["jpg", "txt"])]
    assert found.doubtful.tolist() == [0, 1]
    assert len(found.summary.damage) == 1


def test_very_many_damaged_places_are_a_few_lines(tmp_path):
    path = write(tmp_path / "s.tar", [(f"{n}.txt", b"x") for n in range(400)], USTAR)
    damaged = bytearray(path.read_bytes())
    for n in range(0, 400, 2):
        damaged[n * 1024] ^= 1
    path.write_bytes(damaged)
    found = index.scan(path)
    assert len(found) == 200
    assert len(found.summary.damage) == 51
    assert found.summary.damage[-1] == "and 150 more damaged places"
