"""Tar files for tests, and what a reader finds in them."""

import io
import mmap
import os
import tarfile

from data.errors import SampleError
from data.shards import index
from data.shards.tarwalk import Entry, Gap, walk

GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT


def content(name, number):
    return f"{number}:{name}|".encode("utf-8", "surrogateescape") * (number % 7 * 20 + 1)


def write(path, members, format=PAX, **pax):
    """A tar of ``members``: names, (name, bytes) pairs or TarInfo; returns the path."""
    with tarfile.open(path, "w", format=format, **pax) as tar:
        for number, member in enumerate(members):
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = (member, content(member, number)) if isinstance(member, str) else member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def walked(path):
    """All that a walk finds."""
    with open(path, "rb") as file:
        return list(walk(file.fileno()))


def names(path):
    """Names of the members that a walk finds."""
    return [found.name for found in walked(path) if isinstance(found, Entry)]


def damage(path):
    """What a walk finds damaged."""
    return [found.why for found in walked(path) if isinstance(found, Gap) and found.why]


def samples(path, found=None):
    """[(key, {extension: bytes})] through the index, read three times: at once, from memory, and by its places."""
    found = index.scan(path) if found is None else found
    file = os.open(path, os.O_RDONLY)
    try:
        rows = [found.read(i, file) for i in range(len(found))]
        assert [found.read(i, file, mapped(file)) for i in range(len(found))] == rows
        for i, (key, members) in enumerate(rows):
            assert found.key(i, file) == key
            assert members == {e: os.pread(file, size, offset) for e, (offset, size) in found.members(i).items()}
        return rows
    finally:
        os.close(file)


def mapped(file):
    """What a descriptor is open on, in memory; None of an empty file."""
    return mmap.mmap(file, 0, prot=mmap.PROT_READ) if os.fstat(file).st_size else None


def _outcome(found, i, *where):
    try:
        return found.read(i, *where)
    except SampleError as error:
        return f"(sample {i})", error


def outcomes(path, found):
    """Like ``samples``, with the SampleError of a sample in place of its members."""
    file, rows = os.open(path, os.O_RDONLY), []
    try:
        for i in range(len(found)):
            rows.append(_outcome(found, i, file))
            seen = _outcome(found, i, file, mapped(file))
            assert list(map(str, seen)) == list(map(str, rows[-1]))
    finally:
        os.close(file)
    return rows
