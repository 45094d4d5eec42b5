"""Tar headers: what a block of 512 bytes says of the member behind it."""

from __future__ import annotations

import re
from zlib import adler32

BLOCK = 512
REGULAR = b"0\x007"
EXTENDED = b"LKxXg"  # they describe the member behind them; their content is a name or PAX records
LINKS = b"12"  # to another member, and to another name
WITHOUT_CONTENT = b"123456"  # links, devices, folders: a size in their header means nothing
_RECORD = re.compile(rb"\d+ [\w.]+=")


def text(raw: bytes) -> str:
    """A name as a string; bytes that are not UTF-8 survive the way back."""
    return raw.decode("utf-8", "surrogateescape")


def number(field: bytes) -> int:
    """A numeric field: octal digits, or GNU base-256 for sizes of 8 GiB and more.

    Raises:
        ValueError: it is neither, or negative.
    """
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise ValueError("negative number")
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    found = int(digits, 8) if digits else 0
    if found < 0:
        raise ValueError("negative number")
    return found


def sound(header: bytes) -> bool:
    """Whether the checksum of a header is right."""
    field = header[148:156]
    try:
        stated = int(field[:6], 8)
    except ValueError:
        try:
            stated = number(field)
        except ValueError:
            return False
    # The low half of Adler-32 is the sum of the bytes modulo 65521, thirty times faster than sum().
    if (stated - 256 + sum(field)) % 65521 == adler32(header, 0) & 0xFFFF:
        return True
    try:
        stated = number(field)
    except ValueError:
        return False
    plain = sum(header) - sum(field) + 256
    # Some old writers added up signed bytes.
    return stated in (plain, plain - 256 * sum(b > 127 for b in header[:148] + header[156:]))


def plain_name(header: bytes) -> bytes:
    """The name in the header itself: prefix and name field."""
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def size_of(header: bytes) -> int:
    """The size field.

    Raises:
        ValueError: it holds no number.
    """
    try:
        found = int(header[124:135], 8)
        if found >= 0 and header[135] in b"\0 ":
            return found
    except ValueError:
        pass
    return number(header[124:136])


def pax_records(payload: bytes) -> dict[bytes, bytes]:
    """Keyword -> value of a PAX header's content.

    Raises:
        ValueError: a record's length does not lead to its end.
    """
    records: dict[bytes, bytes] = {}
    at, total = 0, len(payload)
    while at < total and payload[at]:  # some writers fill up with NUL
        space = payload.index(b" ", at)
        end = at + int(payload[at:space])
        if not space < end <= total or payload[end - 1] != 10:
            raise ValueError("a PAX record of a wrong length")
        keyword, equals, value = payload[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise ValueError("a PAX record without a value")
        records[keyword] = value
        at = end
    return records


class Run:
    """The extended headers before a member, read so far.

    Attributes:
        start: byte position of the first of them; -1 if there is none.
        name: the member's name if one of them gives it.
        size: the member's size if one of them gives it.
        sparse: whether the member is stored with its holes left out.
    """

    __slots__ = ("name", "size", "sparse", "start")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets them, behind the member that they describe."""
        self.start = -1
        self.name: bytes | None = None
        self.size: int | None = None
        self.sparse = False

    def add(self, kind: int, payload: bytes) -> None:
        """Takes in one extended header.

        Raises:
            ValueError: it cannot be read.
        """
        if kind == 76:  # L
            self.name = payload.split(b"\0", 1)[0]
            if not self.name:
                raise ValueError("an empty long name")
        elif kind in b"xX":
            records = pax_records(payload)
            self.name = records.get(b"GNU.sparse.name") or records.get(b"path") or self.name
            if b"size" in records:
                self.size = int(records[b"size"])
                if self.size < 0:
                    raise ValueError("negative size")
            self.sparse = any(keyword.startswith(b"GNU.sparse") for keyword in records)


def member(run: bytes) -> tuple[bytes, int]:
    """(name, size) of a member from all its headers.

    Args:
        run: from its first extended header up to its content.

    Raises:
        ValueError: these bytes are not the headers of one member.
    """
    last = len(run) - BLOCK
    if last < 0:
        raise ValueError("no header")
    at, found = 0, Run()
    while at < last:
        size = size_of(run[at : at + BLOCK])
        if run[at + 156] not in EXTENDED:
            raise ValueError("not an extended header")
        found.add(run[at + 156], run[at + BLOCK : at + BLOCK + size])
        at += BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK
    header = run[last:]
    if at != last or header[156] not in REGULAR:
        raise ValueError("not a regular file")
    name = plain_name(header) if found.name is None else found.name
    return name, size_of(header) if found.size is None else found.size


def named_the_next(gap: bytes, header: bytes) -> bool:
    """Whether bytes that are no header any more seem to have been one that names the member behind them.

    Then that member's own header holds a shortened name, which may be another's.

    Args:
        gap: up to some blocks from where a header should be.
        header: the sound header behind the gap.
    """
    if gap[156] in EXTENDED or b"@LongLink" in gap[:100] or b"PaxHeader" in gap[:100]:
        return True
    return _RECORD.match(gap, BLOCK) is not None or (b"\0" not in header[:100] and not header[345])
