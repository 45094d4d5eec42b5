"""Rows of JSON, one a line, that survive the end of the process and a disk that is full for a while."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.errors import RunError
from pretrain.checkpoint.disk import flush, make

log = logging.getLogger("pretrain")

# So many bytes wait in memory for a disk that takes nothing, before the run ends.
PATIENCE = 256 << 20
# So many bytes that were written are kept in memory until they are on disk; who adds more waits for the disk.
KEPT = 16 << 20
_BLOCK = 1 << 16


class Rows:
    """A file that rows are added to, in order, each at once.

    What the disk does not take (full, quota, an I/O error) waits in memory and is written before the next row.
    :meth:`secure` fails as long as something waits, so that no checkpoint is ahead of the rows that lead to it.

    What was written is on disk once a flush has worked. One that failed may have cost all that was written since the
    last good one, and the next says nothing of it: the system tells of a lost page once. So those bytes are kept until
    then, and written anew.

    Args:
        path: the file; made with what is above it at the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._waiting = bytearray()
        self._written = bytearray()  # since the last good flush
        self._flushed: int | None = None  # size of the file at that time; None before it was opened
        self._told = False
        self._new = False
        self._lock = threading.Lock()  # a checkpoint is written by a thread of its own
        self._flushing = threading.Lock()  # taken before the other; rows are added meanwhile

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row.

        Raises:
            RunError: so much is waiting that memory would run out.
        """
        line = (json.dumps(row) + "\n").encode()
        try:
            with self._lock:
                self._waiting += line
                self._drain()
                kept = len(self._written)
            if kept > KEPT:
                self._flush()
        except OSError as error:
            if not self._told:
                log.warning("'%s' cannot be written (%s); its rows wait in memory", self.path, error.strerror or error)
                self._told = True
            if len(self._waiting) > PATIENCE:
                raise RunError(
                    f"'{self.path}' cannot be written ({error.strerror or error}), and {len(self._waiting) >> 20} MiB "
                    "of rows wait already; make room, and the same command continues from the newest checkpoint"
                ) from None

    def secure(self) -> None:
        """Returns when all rows are on disk.

        Raises:
            OSError: the disk does not take them.
        """
        self._flush()
        if self._new:
            flush(self.path.parent)  # without its name on disk a file is gone after a power loss, whatever is in it
            self._new = False

    def close(self) -> None:
        """Writes what waits, if the disk takes it now."""
        with self._flushing, self._lock:
            try:
                self._drain()
            except OSError as error:
                log.warning("%d bytes of '%s' are lost: %s", len(self._waiting), self.path, error.strerror or error)
            if self._file is not None:
                os.close(self._file)
            self._file = self._flushed = None
            self._written.clear()

    def _flush(self) -> None:
        with self._flushing:
            with self._lock:
                self._drain()
                file, count = self._file, len(self._written)
            if file is None:
                return
            try:
                os.fsync(file)
            except OSError:
                with self._lock:
                    self._waiting[:0] = self._written
                    self._written.clear()
                    self._file = None
                with suppress(OSError):  # it may say the same once more
                    os.close(file)
                raise
            with self._lock:
                del self._written[:count]
                self._flushed = (self._flushed or 0) + count

    def _open(self) -> int:
        again, flags = self._flushed, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        if again is None:
            make(self.path.parent)
            cut(self.path)
            flags |= os.O_CREAT
        file = os.open(self.path, flags, 0o666)
        try:
            size = os.fstat(file).st_size
            if again is None:
                self._flushed, self._new = size, True
            elif size < again:
                raise OSError(errno.EIO, f"it has {size} bytes, and had {again} on disk")
            else:
                os.ftruncate(file, again)
        except OSError:
            os.close(file)
            raise
        return file

    def _drain(self) -> None:
        if self._waiting and self._file is None:
            self._file = self._open()
        while self._waiting:
            assert self._file is not None
            count = os.write(self._file, self._waiting)
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._written += self._waiting[:count]
            del self._waiting[:count]
        if self._told:
            log.info("'%s' can be written again", self.path)
            self._told = False


def cut(path: Path) -> None:
    """Drops a last line without end, which a kill or a power loss has left: what is added to it would be lost as well.

    Raises:
        OSError: the disk does not let it.
    """
    try:
        with open(path, "rb") as file:
            size, kept = file.seek(0, os.SEEK_END), 0
            for begin in range((size - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
                file.seek(begin)
                end = file.read(_BLOCK).rfind(b"\n")
                if end >= 0:
                    kept = begin + end + 1
                    break
    except FileNotFoundError:
        return
    if kept < size:
        os.truncate(path, kept)
