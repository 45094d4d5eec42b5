"""Tar files for tests, and what a reader finds in them."""

import io
import os
import tarfile

from data.errors import SampleError
from data.shards import index

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


def samples(path, found=None):
    """[(key, {extension: bytes})] through the index, read twice: by its places and at once."""
    found = index.scan(path) if found is None else found
    file = os.open(path, os.O_RDONLY)
    try:
        rows = [found.read(i, file) for i in range(len(found))]
        for i, (key, members) in enumerate(rows):
            assert found.key(i, file) == key
            assert members == {e: os.pread(file, size, offset) for e, (offset, size) in found.members(i).items()}
        return rows
    finally:
        os.close(file)


def outcomes(path, found):
    """Like ``samples``, with the SampleError of a sample in place of its members."""
    file, rows = os.open(path, os.O_RDONLY), []
    try:
        for i in range(len(found)):
            try:
                rows.append(found.read(i, file))
            except SampleError as error:
                rows.append((f"(sample {i})", error))
    finally:
        os.close(file)
    return rows
