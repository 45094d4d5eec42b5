"""Room in the cache: what gives way, and who waits for it.

Who finds no room waits in line. Only the first in line waits for room; nobody else begins a shard meanwhile, and what
is there is opened in turn too. None of them keeps a shard open while it waits (:mod:`data.store.held`), and a part that
cannot grow while another is first is given up. So the first gets room as soon as others have done what they are at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from data.errors import CacheError
from data.store.locks import hold, lock, release, sweep

_POLL_S = 0.05
_PASSING_S = 0.3


class Full(Exception):
    """There is no room now: what is in the cache is in use."""


class Space:
    """The bytes of a cache.

    Args:
        folder: of the cache.
        max_size: bytes.
    """

    def __init__(self, folder: Path, max_size: int) -> None:
        self.folder = folder
        self.max_size = max_size
        self._line = str(folder / "locks" / "room")

    def alone(self) -> AbstractContextManager[None]:
        """To look at shards and parts while nobody else does."""
        return hold(self.folder / "locks" / "cache")

    def awaited(self) -> bool:
        """Whether somebody waits for room."""
        return os.path.exists(self._line)

    def let_others_in(self, patience_s: float, check: Callable[[], None]) -> None:
        """Waits for a turn, and takes nothing; for ``patience_s`` at most. ``check`` as in :meth:`take`."""
        end = time.monotonic() + patience_s

        def waits() -> None:
            check()
            if time.monotonic() > end:
                raise Full

        # Who may read what is there but write nothing has nobody to make room for.
        with contextlib.suppress(Full, OSError), self._turn(waits):
            pass

    def _turn(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """To be first in line; ``check`` is called while others are."""
        return hold(Path(self._line), check)

    def take(
        self, step: Callable[[], bool], size: int, patience_s: float, check: Callable[[], None], own: str = ""
    ) -> None:
        """Calls ``step`` under the lock of the cache until it is true.

        Args:
            step: takes the room if there is any.
            size: bytes that are needed.
            patience_s: how long to wait while nothing in the cache changes.
            check: called while waiting; what it raises ends the wait.
            own: part that grows. It does not stand in line, as it would keep its own bytes from the first.

        Raises:
            CacheError: the bytes never fit, or did not within ``patience_s``.
            Full: there is no room, and ``patience_s`` is 0 or ``own`` must be given up.
        """
        if size > self.max_size:
            raise CacheError(
                f"cache.max_size, {self.max_size} bytes, is smaller than a shard of {size} bytes; raise it"
            )
        with self.alone():
            sweep(Path(self._line))  # of one that died
            if (own or not size or not self.awaited()) and step():
                return
        if not patience_s:
            raise Full
        seen, end = self._state(), time.monotonic() + patience_s

        def waits() -> None:
            nonlocal seen, end
            check()
            if time.monotonic() > end:
                now = self._state()
                if now == seen:
                    raise CacheError(self._refusal(size, patience_s, own))
                seen, end = now, time.monotonic() + patience_s

        check()
        with self._turn(_giving_up(time.monotonic() + _PASSING_S) if own else waits):
            while True:
                with self.alone():
                    if step():
                        return
                waits()
                time.sleep(_POLL_S)

    def make(self, size: int, own: str = "") -> bool:
        """Evicts what was used longest ago until ``size`` bytes fit; False, and nothing gone, if they cannot.

        Call it under the cache's lock. ``own`` is a part that ``size`` is for: it does not count by itself.
        """
        for left in os.scandir(self.folder / "locks"):
            sweep(Path(left.path))
        used = size + sum(self._parts(own))
        entries = sorted(
            (stat.st_mtime_ns, stat.st_size, entry.path)
            for entry in os.scandir(self.folder / "shards")
            for stat in [entry.stat()]
        )
        used += sum(entry[1] for entry in entries)
        victims: list[tuple[int, str]] = []
        try:
            for _, bytes_, path in entries:
                if used <= self.max_size:
                    break
                descriptor = _open_alone(path)
                if lock(descriptor, fcntl.LOCK_EX):
                    victims.append((descriptor, path))
                    used -= bytes_
                else:
                    os.close(descriptor)  # open somewhere
            for _, path in victims if used <= self.max_size else []:
                os.unlink(path)
            return used <= self.max_size
        finally:
            for descriptor, _ in victims:
                release(descriptor)

    def _parts(self, own: str) -> list[int]:
        """Bytes set aside for each part but ``own``; one that nobody makes any more is removed."""
        found = []
        for entry in os.scandir(self.folder / "parts"):
            if entry.name == own:
                continue
            try:
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # its maker gave up just now
                continue
            if lock(descriptor, fcntl.LOCK_SH):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
                release(descriptor)
            else:
                os.close(descriptor)
                found.append(int(entry.name.split(".")[1]))
        return found

    def _state(self) -> list[tuple[str, int]]:
        """What changes when something is transferred, unpacked or evicted."""
        found = []
        for kind in ("shards", "parts"):
            for entry in os.scandir(self.folder / kind):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat().st_size))
        return sorted(found)

    def _refusal(self, size: int, waited_s: float, own: str) -> str:
        with self.alone():
            parts, opened = self._parts(own), []
            for entry in os.scandir(self.folder / "shards"):
                descriptor = _open_alone(entry.path)
                if lock(descriptor, fcntl.LOCK_EX):
                    release(descriptor)
                else:
                    opened.append(os.fstat(descriptor).st_size)
                    os.close(descriptor)
        return (
            f"cache.max_size, {self.max_size} bytes, is too small: a shard needs {size} bytes, and others in "
            f"'{self.folder}' were in use for {waited_s:.0f} s: {len(opened)} open ({sum(opened)} bytes), {len(parts)} "
            f"in the making ({sum(parts)} bytes); raise it"
        )


def _open_alone(path: str) -> int:
    """A descriptor to be locked exclusively, for which NFS wants one that may write."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:  # of another user; a disk of the host asks for no more
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _giving_up(end: float) -> Callable[[], None]:
    """For a part that grows: others that only pass are waited for, one that waits for room is not."""

    def check() -> None:
        if time.monotonic() > end:
            raise Full

    return check
