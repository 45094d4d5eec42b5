"""Who works in a run directory, asked of the kernel without taking anything from them. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from pretrain.ending import last_word
from pretrain.lease import LOCK

# ``struct flock``: type, whence, start, length, process on Linux; another order on the BSDs and macOS.
_LAYOUT, _TYPE, _PID = ("hhqqi0q", 0, 4) if sys.platform.startswith("linux") else ("qqihh0q", 3, 2)
PROC = Path("/proc")
_OWNER = re.compile(r"process (\d+) on (\S+)")


@dataclass(frozen=True)
class Holder:
    """The process that has a run directory's lock, or had it last.

    Attributes:
        active: whether it has it now; None where the file system cannot say.
        pid, host: as it wrote them itself; 0 and "" if nobody ever did.
    """

    active: bool | None
    pid: int = 0
    host: str = ""


def holder(folder: Path) -> Holder:
    """Looks at the lock of the run directory ``folder``, which stays as it is."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Holder(False)
    pid, host = 0, ""
    try:
        owner = _OWNER.match(os.pread(file, 200, 0).decode(errors="replace"))
        if owner:
            pid, host = int(owner[1]), owner[2]
        fields: list[int] = [0, 0, 0, 0, 0]
        fields[_TYPE] = fcntl.F_RDLCK
        answer = struct.unpack(_LAYOUT, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_LAYOUT, *fields)))
        return Holder(answer[_TYPE] != fcntl.F_UNLCK, pid, host)
    except OSError:
        return Holder(None, pid, host)
    finally:
        os.close(file)


def works(folder: Path, found: Holder) -> bool | None:
    """Whether ``found`` works in ``folder`` now, also where the file system has no locks; None if it cannot be told.

    There a last word says that it ended; without one, a process of this host is at work if it has the lock file open:
    its number alone may be somebody else's by now.
    """
    if found.active is not None:
        return found.active
    if last_word(folder) is not None:
        return False
    if found.host != socket.gethostname() or not PROC.is_dir():
        return None
    try:
        lock = os.stat(folder / LOCK)
        files = [file for file in (PROC / str(found.pid) / "fd").iterdir() if _is(file, lock)]
    except FileNotFoundError:
        return False  # no such process
    except PermissionError:
        return None
    return bool(files)


def _is(file: Path, wanted: os.stat_result) -> bool:
    """Whether what a process has open there is ``wanted``."""
    try:
        found = file.stat()
    except OSError:  # closed meanwhile, or of a file system that is gone
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)
