"""Tars as other programs and other options write them."""

import gzip
import os
import subprocess

import pytest

from data.errors import InputError
from data.shards import index
from data.shards.source import Source
from tests.data.shards.tars import GNU, PAX, USTAR, damage, names, samples, write


@pytest.mark.parametrize("blocks", [64, 128, 2048])
def test_archives_of_large_records_end_to_end(tmp_path, blocks):
    """As tar -b writes them; with an end marker that just fits, or is one block too long, too."""
    pieces = []
    for number, members in enumerate([3, 1, blocks // 2 - 1, blocks - 1]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        wanted = [f"{number}-{n}.txt" for n in range(members)]
        for name in wanted:
            (folder / name).write_text(name * (100 if number == 3 and name == wanted[0] else 1))
        tar = ["tar", "-b", f"{blocks}", "-cf", f"{folder}.tar", "-C", folder, *wanted]
        subprocess.run(tar, check=True)
        pieces.append((wanted, (tmp_path / f"{number}.tar").read_bytes()))
    path = tmp_path / "s.tar"
    for some in (pieces[:2], pieces, pieces[::-1], [pieces[0], pieces[0]]):
        path.write_bytes(b"".join(content for _, content in some))
        assert names(path) == [name for wanted, _ in some for name in wanted]
        assert damage(path) == []
    assert index.scan(path).doubtful.tolist() == []


def test_holes_that_end_where_a_large_record_would(tmp_path):
    """Sound members follow, as behind an archive: only what cannot be the end of one is known to be damage."""
    whole = write(tmp_path / "s.tar", [(f"{n:03d}.txt", b"x") for n in range(200)], USTAR).read_bytes()
    path = tmp_path / "s.tar"
    for begin, end, length in [
        (62, 128, 382),
        (62, 128, 386),
        (2, 130, 384),
        (2, 130, 386),
        (70, 96, 384),
        (2, 192, 384),
    ]:
        content = whole[: begin * 512] + bytes((end - begin) * 512) + whole[end * 512 :]
        path.write_bytes(content[: length * 512].ljust(length * 512, b"\0"))
        assert len(damage(path)) == 1
        assert f"{end - begin} empty blocks at byte {begin * 512}, but more behind them" in damage(path)[0]


def test_gzip_under_the_name_of_a_tar_is_called_so(tmp_path):
    tar = write(tmp_path / "a.tar", [(f"{n}.txt", os.urandom(500)) for n in range(4)]).read_bytes()
    for content in (gzip.compress(tar), gzip.compress(b"")):
        (tmp_path / "s.tar").write_bytes(content)
        assert names(tmp_path / "s.tar") == []
        assert damage(tmp_path / "s.tar") == ["this is gzip and no tar: name it .tar.gz, or unpack it"]
    with pytest.raises(InputError, match=r"s.tar' is empty \(this is gzip and no tar: name it .tar.gz"):
        Source("x", str(tmp_path / "s.tar"))
    path = write(tmp_path / "t.tar", ["\x1f\udc8b.txt"], GNU, encoding="utf-8", errors="surrogateescape")
    assert damage(path) == []
    assert len(names(path)) == 1


@pytest.mark.parametrize("format", [PAX, GNU])
def test_extensions_of_another_encoding_are_read(tmp_path, format):
    """``1.Köln.jpg`` in Latin-1: the extension is ``köln.jpg``, with a byte that is no UTF-8."""
    names = [os.fsdecode(b"p%d.1.K\xf6ln.%b" % (n, e)) for n in range(3) for e in (b"jpg", b"txt")]
    write(tmp_path / "s.tar", names, format, encoding="utf-8", errors="surrogateescape")
    source = Source("x", str(tmp_path / "s.tar"))
    read = [source.read(number).members for number in range(len(source))]
    assert [len(members) for members in read] == [2, 2, 2]
    assert all(os.fsencode(extension).lower().startswith(b"1.k\xf6ln.") for members in read for extension in members)


@pytest.mark.parametrize("format", [PAX, GNU])
def test_members_that_are_links_are_named(tmp_path, format):
    """As ``tar`` stores the second name of a file, and what a symbolic link stands for."""
    folder, path = tmp_path / "f", tmp_path / "s.tar"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.txt").write_text(f"{n}")
        (folder / f"{n}.jpg").write_text("the same")
    for n in range(3, 5):
        os.link(folder / "0.txt", folder / f"{n}.txt")
        (folder / f"{n}.jpg").symlink_to("0.jpg")
    (folder / ("d" * 150)).symlink_to("0.jpg")  # would be no member either way
    order = [f"{n}.{extension}" for n in range(5) for extension in ("jpg", "txt")]
    tar = ["tar", "--format", "gnu" if format == GNU else "posix", "-cf", path, "-C", folder]
    subprocess.run([*tar, *order, "d" * 150], check=True)
    found = index.scan(path)
    assert [key for key, _ in samples(path, found)] == ["0", "1", "2"]
    assert found.summary.damage == (
        "4 members are links to other names and are left out ('3.jpg', '3.txt', '4.jpg', ...): "
        "make the tar with --dereference --hard-dereference",
    )
    assert found.doubtful.tolist() == []
    assert Source("x", str(path)).damage[0].endswith("hard-dereference (3 samples are readable)")
    os.link(folder / "1.txt", folder / ("x" * 150 + ".txt"))
    subprocess.run([*tar, "1.txt", "x" * 150 + ".txt"], check=True)
    assert index.scan(path).summary.damage == (
        f"1 member is a link to another name and is left out ('{'x' * 150}.txt'): "
        "make the tar with --dereference --hard-dereference",
    )
    subprocess.run([*tar, "--dereference", "--hard-dereference", *order], check=True)
    assert index.scan(path).summary.damage == ()
    assert len(samples(path)) == 5
