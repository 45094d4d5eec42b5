import io
import os
import tarfile

import numpy as np
import pytest

from data import index
from data.errors import InputError
from data.tarwalk import DamagedTar, walk

LONG = "d" * 90 + "/" + "e" * 90 + "/" + "f" * 120
NAMES = ["a.jpg", "a.seg.png", "sub/b.jpg", LONG + ".jpg", "ü/日本.TXT", "line\nend.txt", "two words.txt"]


def write(path, names, format=tarfile.PAX_FORMAT, special=()):
    with tarfile.open(path, "w", format=format) as tar:
        for member in special:
            tar.addfile(member)
        for number, name in enumerate(names):
            content = f"{number}:{name}".encode() * (number * 40 + 1)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def contents(path):
    """What walk finds, and what tarfile finds."""
    with open(path, "rb") as file:
        ours = [(e.name, os.pread(file.fileno(), e.size, e.offset)) for e in walk(path)]
    with tarfile.open(path) as tar:
        theirs = [(m.name, tar.extractfile(m).read()) for m in tar if m.isreg()]
    return ours, theirs


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_walk_agrees_with_tarfile(tmp_path, format):
    special = []
    for number, kind in enumerate([tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]):
        member = tarfile.TarInfo(f"special{number}" + LONG * (number == 1))
        member.type, member.linkname = kind, LONG
        special.append(member)
    special[0].size = 4096  # some writers state a size for folders, and write no content
    ours, theirs = contents(write(tmp_path / "s.tar", NAMES, format, special))
    assert ours == theirs
    assert len(ours) == len(NAMES)


def test_walk_ustar_prefix(tmp_path):
    ours, theirs = contents(write(tmp_path / "s.tar", ["p" * 90 + "/" + "q" * 90 + ".txt"], tarfile.USTAR_FORMAT))
    assert ours == theirs


def test_walk_pax_size_and_global_header(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "global"}) as tar:
        member = tarfile.TarInfo("a.bin")
        member.size, member.pax_headers = 700, {"size": "700"}
        tar.addfile(member, io.BytesIO(b"z" * 700))
        tar.addfile(tarfile.TarInfo("b.bin"))
    ours, theirs = contents(path)
    assert ours == theirs == [("a.bin", b"z" * 700), ("b.bin", b"")]


def test_no_end_marker_is_sound_and_a_cut_is_named(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt", "b.txt"])
    whole = path.read_bytes()[: 4 * 512]
    path.write_bytes(whole)
    assert [entry.name for entry in walk(path)] == ["a.txt", "b.txt"]
    for length, kept, damage in [
        (3 * 512, 1, ""),  # the member's content is missing
        (3 * 512 + 10, 1, "inside the member at byte 1024"),
        (2 * 512 + 100, 1, "breaks off at byte 1124"),
        (4 * 512 - 10, 2, "breaks off at byte 2038"),
        (100, 0, "breaks off at byte 100"),
    ]:
        path.write_bytes(whole[:length])
        found = index.scan(path)
        assert len(found) == kept
        assert found.damage
        assert damage in found.damage


def test_garbage_is_damage(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt", "b.txt"])
    content = bytearray(path.read_bytes())
    content[1024 + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedTar, match="no tar header at byte 1024"):
        list(walk(path))
    path.write_bytes(b"")
    assert len(index.scan(path)) == 0


def test_sparse_files_are_refused(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.bin")
        member.pax_headers = {"GNU.sparse.major": "1"}
        tar.addfile(member)
    with pytest.raises(DamagedTar, match="sparse"):
        list(walk(path))


def test_keys_and_extensions(tmp_path):
    odd = ["./k.jpg", "./k.seg.png", "dir.v1/k.JPG", "._k.jpg", ".hidden", "noextension", "dot.", "l.txt", "k.cls"]
    found = index.scan(write(tmp_path / "s.tar", odd))
    assert found.keys == ["k", "dir.v1/k", "l"]
    assert [sorted(found.members(i)) for i in range(3)] == [["cls", "jpg", "seg.png"], ["jpg"], ["txt"]]
    assert found.lacking(("jpg", "png")).tolist() == [2]
    assert found.damage == ""


def test_index_is_kept_and_comes_back_the_same(tmp_path):
    path = write(tmp_path / "s.tar", NAMES)
    path.write_bytes(path.read_bytes()[:-10240])  # cuts the last sample
    first, second = index.load(path), index.load(path)
    assert (tmp_path / "s.tar.idx").exists()
    assert first.keys == second.keys == ["a", "sub/b", LONG, "ü/日本", "line\nend"]
    assert first.damage
    assert (first.damage, first.extensions, first.tar_bytes) == (second.damage, second.extensions, second.tar_bytes)
    for column in ("first", "extension", "offset", "size"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_stale_or_damaged_index_is_made_anew(tmp_path):
    path = write(tmp_path / "s.tar", ["a.txt"])
    index.load(path)
    write(path, ["b.txt", "c.txt"])
    assert index.load(path).keys == ["b", "c"]
    stored = tmp_path / "s.tar.idx"
    sound = stored.read_bytes()
    for damaged in (b"", b"junk", sound[:200], sound[:-30], sound[:60] + b"\xff" * 40 + sound[100:]):
        stored.write_bytes(damaged)
        assert index.load(path).keys == ["b", "c"]


def test_more_extensions_than_sixteen_bits(tmp_path):
    path = tmp_path / "s.tar"
    blocks = []
    for number in range(66_000):
        block = bytearray(512)
        name = f"k.{number}".encode()
        block[: len(name)] = name
        block[124:136] = b"00000000000\0"
        block[156:157] = b"0"
        block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
        blocks.append(bytes(block))
    path.write_bytes(b"".join(blocks))
    assert index.scan(path).members(0)["65999"] == (66_000 * 512, 0)


def test_unreadable_shards_are_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        index.load(tmp_path / "no.tar")
    with pytest.raises(InputError, match="cannot be read"):
        index.load(tmp_path)
