"""Rows of JSON, one a line, that survive the end of the process and a disk that is full for a while."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import RunError
from pretrain.checkpoint.disk import flush, make

log = logging.getLogger("pretrain")

# So many bytes wait in memory for a disk that takes nothing, before the run ends.
PATIENCE = 256 << 20
_BLOCK = 1 << 16


class Rows:
    """A file that rows are added to, in order, each at once.

    What the disk does not take (full, quota, an I/O error) waits in memory and is written before the next row.
    :meth:`secure` fails as long as something waits, so that no checkpoint is ahead of the rows that lead to it.

    Args:
        path: the file; made with what is above it at the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._waiting = bytearray()
        self._told = False
        self._new = False
        self._lock = threading.Lock()  # a checkpoint is written by a thread of its own

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
        with self._lock:
            self._drain()
        if self._file is not None:
            os.fsync(self._file)
        if self._new:
            flush(self.path.parent)  # without its name on disk a file is gone after a power loss, whatever is in it
            self._new = False

    def close(self) -> None:
        """Writes what waits, if the disk takes it now."""
        try:
            with self._lock:
                self._drain()
        except OSError as error:
            log.warning("%d bytes of '%s' are lost: %s", len(self._waiting), self.path, error.strerror or error)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _drain(self) -> None:
        if self._waiting and self._file is None:
            make(self.path.parent)
            cut(self.path)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._new = True
        while self._waiting:
            assert self._file is not None
            written = os.write(self._file, self._waiting)
            if not written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            del self._waiting[:written]
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
