"""Standard streams that may be closed, or go away while a run is long: neither ends it. Imports no torch."""

from __future__ import annotations

import io
import os
import sys


class Leaving(io.FileIO):
    """A descriptor whose other end may leave: what it does not take (a reader that ended, a full disk) is dropped."""

    def write(self, content: object) -> int | None:  # type: ignore[override]
        """Bytes that are done with."""
        try:
            return super().write(content)  # type: ignore[arg-type]
        except OSError:
            return memoryview(content).nbytes  # type: ignore[arg-type]


def open_standard_streams() -> None:
    """Makes descriptors 0 to 2 and ``sys.stdout`` and ``sys.stderr`` usable, and ``sys.stderr`` one that cannot fail.

    A descriptor that is closed (``>&-``, some schedulers) would be given to the next file that is opened, of the run
    perhaps, and what a library or a child writes to its output would go there. Messages of a training go to
    ``sys.stderr``; a pipe's reader that leaves is no reason to lose it. ``sys.stdout`` fails as ever: what a verb
    prints is its work.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = _text(io.FileIO(1, "w", closefd=False))
    if sys.stderr is None or sys.stderr is sys.__stderr__:  # else somebody has put another in its place (a notebook)
        encoding = sys.stderr.encoding if sys.stderr is not None else None
        sys.stderr = _text(Leaving(2, "w", closefd=False), encoding)


def _text(raw: io.FileIO, encoding: str | None = None) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True)
