"""Who works in a run directory, asked of the kernel without taking anything from them. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from pretrain.lease import LOCK

# ``struct flock``: type, whence, start, length, process on Linux; another order on the BSDs and macOS.
_LAYOUT, _TYPE, _PID = ("hhqqi0q", 0, 4) if sys.platform.startswith("linux") else ("qqihh0q", 3, 2)
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
    try:
        owner = _OWNER.match(os.pread(file, 200, 0).decode(errors="replace"))
        pid, host = (int(owner[1]), owner[2]) if owner else (0, "")
        fields: list[int] = [0, 0, 0, 0, 0]
        fields[_TYPE] = fcntl.F_RDLCK
        answer = struct.unpack(_LAYOUT, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_LAYOUT, *fields)))
        return Holder(answer[_TYPE] != fcntl.F_UNLCK, pid, host)
    except OSError:
        return Holder(None)
    finally:
        os.close(file)
