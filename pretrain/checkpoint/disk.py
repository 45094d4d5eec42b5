"""Bytes onto a disk, and off it. All that checkpoints do to a file system is done here. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

# How much is hashed and then written at once: small enough to be still in the processor's cache for the second.
CHUNK = 1 << 20


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Writes a new file and brings it to disk; returns its size and the SHA-256 of what was handed over.

    The digest is that of the bytes in memory, so that a disk that keeps something else is found out by readers.

    Raises:
        OSError: there is such a file already, no room, no permission, or the disk failed.
    """
    size, digest = 0, hashlib.sha256()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            for start in range(0, len(view), CHUNK):
                piece = view[start : start + CHUNK]
                digest.update(piece)
                size += len(piece)
                while piece:  # a disk that fills takes a part first and refuses the rest
                    piece = piece[os.write(file, piece) :]
        os.fsync(file)
    finally:
        os.close(file)
    return size, digest.hexdigest()


def replace(path: Path, content: bytes) -> None:
    """Puts ``content`` in place of a file, or makes it: the old or the new one is there, whenever the power is lost.

    Raises:
        OSError: the disk does not take it; the old one stays.
    """
    partial = path.with_name(f".{path.name}.part")
    remove(partial)
    write(partial, [content])
    os.replace(partial, path)
    flush(path.parent)


def make(path: Path) -> None:
    """Makes a folder with what is above it, unless it is there, so that it is still there after a power loss."""
    if path.is_dir():
        return
    make(path.parent)
    path.mkdir(exist_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Brings a file or the entries of a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; a link, not what it leads to. Nothing there is no error."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        for name in sorted(os.listdir(path)):
            remove(path / name)
        os.rmdir(path)
    else:
        os.unlink(path)


def regular_size(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        OSError: it is not there, or is a link, a pipe or a device, whose reading could lead elsewhere or never end.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path.name} is no regular file")
    return found.st_size
