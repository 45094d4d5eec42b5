"""Walks the headers of a tar without reading its contents, past what is damaged.

Python's ``tarfile`` costs some 100 microseconds a member; shards hold tens of thousands. Known here: ustar, GNU long
names, PAX paths and sizes, archives without an end marker, and several archives end to end (``cat a.tar b.tar``), of
which ``tar`` reads all only with ``-i``. Links are named; devices and directories are passed over.

Only headers carry a checksum: damage to contents, long names and PAX records can go unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from data.shards import tarheader
from data.shards.tarbytes import TarBytes
from data.shards.tarheader import BLOCK, EXTENDED, LINKS, REGULAR, WITHOUT_CONTENT, Run, sound, text

_RECORD = 20 * BLOCK  # archives are filled up to whole records: of 20 blocks, or of what ``tar -b`` says
_LARGE = 64 * BLOCK
_LONGEST = 2**20
_TELLING = b"LxX"  # of the extended headers; global records and long names of links are of no use here
_GZIP = b"\x1f\x8b"
_SPARSE, _FOLDER = ord("S"), ord("5")


class Entry(NamedTuple):
    """A regular file inside a tar: its name, where its headers begin, and where its bytes lie."""

    name: str
    start: int
    offset: int
    size: int


class Link(NamedTuple):
    """A name without content of its own: a hard or symbolic link, wherever to."""

    name: str


class Gap(NamedTuple):
    """Bytes ``start`` to ``end`` that give no member.

    Attributes:
        start: first byte.
        end: first byte behind it.
        why: in words; "" at the end of an archive without an end marker, where nothing need be missing.
        name: of the member that is lost, where it is known.
    """

    start: int
    end: int
    why: str
    name: str = ""


class _Walk:
    """A walk under way: where it is, and what the headers before the next member said.

    Attributes:
        lost: headers that may name the next member were unreadable: from where on, and why.
    """

    def __init__(self, file: int) -> None:
        self.source = TarBytes(file)
        self.total = self.source.total
        self.run = Run()
        self.position = self.archive = 0
        self.lost: tuple[int, str] | None = None

    def begin(self) -> int:
        """Where what is not told yet begins."""
        if self.lost:
            return self.lost[0]
        return self.position if self.run.start < 0 else self.run.start

    def gap(self, end: int, why: str, name: bytes | None = None) -> Gap:
        """What is not told yet as damage up to ``end``, where the walk goes on."""
        begin = self.begin()
        if end - begin > BLOCK:
            why = f"{why} (bytes {begin} to {end - 1})"
        self.run.clear()
        self.lost, self.position = None, end
        return Gap(begin, end, why, text(name or b""))

    def resume(self, header: bytes) -> Gap | None:
        """Goes on behind a block that is no sound header."""
        position = self.position
        if not header.strip(b"\0"):
            return self._empty()
        why = f"no tar header at byte {position}"
        found = self.source.header(position + BLOCK)
        after = self.source.at(found, BLOCK) if found < self.total else b""
        if len(after) == BLOCK and self.run.name is None:
            lost = self.source.at(position, min(3 * BLOCK, found - position))
            if tarheader.named_the_next(lost, after):
                self.lost = (self.begin(), f"{why}: the name of the next member is lost")
                self.run.clear()
                self.position = found
                return None
        return self.gap(found, why, self.run.name)

    def _empty(self) -> Gap | None:
        position, found = self.position, self.source.filled(self.position)
        pending = self.lost is not None or self.run.start >= 0
        if found >= self.total:
            self.position = self.total
            return self.gap(self.total, f"no member behind the headers at byte {self.begin()}") if pending else None
        count = (found - position) // BLOCK
        ends = self._ends(found, count)
        if not sound(self.source.at(found, BLOCK).ljust(BLOCK, b"\0")):
            what = "something that is no archive" if ends else "something that is no header"
            return self.gap(self.source.header(found), f"{what} behind empty blocks at byte {position}", self.run.name)
        if pending or not ends:
            return self.gap(found, f"{count} empty blocks at byte {position}, but more behind them", self.run.name)
        self.archive = self.position = found
        return None

    def _ends(self, found: int, count: int) -> bool:
        """Whether ``count`` empty blocks up to ``found`` end an archive; other emptiness is a hole.

        An archive ends with two empty blocks, and more up to a whole record. Some size of record fits any hole, so that
        only these count: multiples of 20 blocks, and powers of two from 64 on, as ``tar -b`` is given. Storage loses
        pieces of such sizes, too. So these must leave the empty blocks no more room than the end of an archive takes
        (which may need a record of its own), and the rest of the file must consist of such records as well.
        """
        size = found - self.archive
        if count == 2 or (count > 2 and size % _RECORD == 0):
            return True
        record = size & -size  # the largest power of two that divides it
        alike = record >= _LARGE and (self.total - found) % _LARGE == 0
        return alike and 2 < count <= record // BLOCK + 1

    def extend(self, kind: int, size: int) -> Gap | None:
        """Takes in an extended header, which describes the next member."""
        offset = self.position + BLOCK
        if offset + size > self.total:
            return self.gap(self.total, f"breaks off inside the header at byte {self.position}")
        if self.run.start < 0:
            self.run.start = self.position
        self.position = offset + (size + BLOCK - 1) // BLOCK * BLOCK
        if kind in _TELLING:
            payload = self.source.at(offset, size) if size <= _LONGEST else b""
            try:
                if len(payload) < size:
                    raise ValueError("too long")
                self.run.add(kind, payload)
            except ValueError:
                self.lost = (self.begin(), f"unreadable extended header at byte {offset - BLOCK}")
        return None

    def sparse(self, header: bytes, size: int, name: bytes) -> Gap:
        """Passes over a file that is stored without its holes."""
        offset = self.position + BLOCK
        if header[156] == _SPARSE:
            more = header[482]
            while more and offset + BLOCK <= self.total:  # further blocks of the map of holes
                more = self.source.at(offset, BLOCK).ljust(BLOCK, b"\0")[504]
                offset += BLOCK
        end = offset + (size + BLOCK - 1) // BLOCK * BLOCK
        why = f"sparse file at byte {self.begin()}: make the tar without --sparse"
        return self.gap(min(end, self.total), why, name)


def walk(file: int) -> Iterator[Entry | Link | Gap]:
    """Yields the regular files and links of the tar behind the descriptor ``file`` in their order, and what is damaged.

    Behind a damaged header it goes on at the next block that is a sound one.
    """
    walk = _Walk(file)
    at, run, total = walk.source.at, walk.run, walk.total
    gap: Gap | None
    if at(0, len(_GZIP)) == _GZIP and not (total >= BLOCK and sound(at(0, BLOCK))):
        yield Gap(0, total, "this is gzip and no tar: name it .tar.gz, or unpack it")
        return
    while walk.position < total:
        position = walk.position
        header = at(position, BLOCK)
        if len(header) < BLOCK:
            yield walk.gap(total, f"breaks off at byte {total}")
            return
        if not sound(header):
            if (gap := walk.resume(header)) is not None:
                yield gap
            elif walk.position >= total:
                return  # behind the end marker
            continue
        kind = header[156]
        try:
            size = 0 if kind in WITHOUT_CONTENT else tarheader.size_of(header)
        except ValueError:
            yield walk.gap(walk.source.header(position + BLOCK), f"no size in the header at byte {position}", run.name)
            continue
        if kind in EXTENDED:
            if (gap := walk.extend(kind, size)) is not None:
                yield gap
            continue
        name = run.name
        if name is None:
            name = tarheader.plain_name(header)
            if kind == 0 and name.endswith(b"/"):  # how folders were written before there was a kind for them
                kind, size = _FOLDER, 0
        if run.size is not None and kind in REGULAR:
            size = run.size
        offset = position + BLOCK
        if offset + size > total:
            named = kind in REGULAR and walk.lost is None
            yield walk.gap(total, f"breaks off inside the member at byte {walk.begin()}", name if named else None)
            return
        end = offset + (size + BLOCK - 1) // BLOCK * BLOCK
        if walk.lost is not None:
            yield walk.gap(end, walk.lost[1])
        elif kind == _SPARSE or run.sparse:
            yield walk.sparse(header, size, name)
        else:
            if kind in REGULAR:
                yield Entry(text(name), position if run.start < 0 else run.start, offset, size)
            elif kind in LINKS:
                yield Link(text(name))
            walk.position = end
            if run.start >= 0:
                run.clear()
    if walk.position > total or run.start >= 0 or walk.lost:
        walk.position = min(walk.position, total)
        yield walk.gap(total, f"breaks off at byte {total}")
    else:
        yield Gap(total, total, "")
