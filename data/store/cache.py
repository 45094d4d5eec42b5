"""A folder of shards that is bounded in bytes and shared by all processes of a host, also by those of several runs.

``shards/KEY`` is a complete tar; ``parts/KEY.BYTES.RANDOM`` one in the making, for which BYTES are set aside; ``index``
holds shard indexes and ``notes`` what was wrong with a shard before it was a tar. Who reads or makes a file holds a
lock on its descriptor; a part without one was left by a process that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data.errors import InputError, RunError
from data.store.bytesize import parse_size
from data.store.locks import hold, lock, release, sweep

_POLL_S = 0.05


class Full(Exception):
    """There is no room now: what is in the cache is in use."""


class Part:
    """A file in the making, with bytes of the cache set aside for it."""

    def __init__(self, cache: Cache, key: str, size: int) -> None:
        self.cache = cache
        self.key = key
        self.size = size
        self.path = cache.folder / "parts" / f"{key}.{size}.{secrets.token_hex(4)}"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        lock(self.descriptor, fcntl.LOCK_EX)

    def grow(self, size: int, patience_s: float = 0.0) -> None:
        """Sets aside ``size`` bytes in all.

        Raises:
            InputError: the cache is too small.
        """

        def grown() -> bool:
            if not self.cache.make_room(size, self.path.name):
                return False
            path = self.path.with_name(f"{self.key}.{size}.{secrets.token_hex(4)}")
            os.rename(self.path, path)
            self.path, self.size = path, size
            return True

        if size > self.size:
            self.cache.within(grown, size, patience_s)


class Cache:
    """The folder. Nothing is made or read before it is needed; picklable.

    Args:
        folder: null for ``pretrain`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Best on a disk of the host itself.
        max_size: bytes, or a text such as ``50GB``. Indexes are not counted; they are some thousandths of the shards.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_size: str | int = "50GB") -> None:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "pretrain")
        self.folder = Path(folder or usual).expanduser().absolute()
        self.max_size = parse_size(max_size)

    @staticmethod
    def key(*words: object) -> str:
        """Name of an entry, from all that tells it from others."""
        return hashlib.sha256("\n".join(map(str, words)).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def place(self, kind: str, name: str) -> Path:
        """A file of the cache; ``kind``: shards, parts, locks, index or notes."""
        return self.folder / kind / name

    def prepare(self) -> None:
        """Makes the folders.

        Raises:
            InputError: it cannot.
        """
        try:
            for name in ("shards", "parts", "locks", "index", "notes"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cache.folder '{self.folder}' cannot be made: {error.strerror}") from None
        if not os.access(self.folder / "parts", os.W_OK):
            raise InputError(f"cache.folder '{self.folder}' cannot be written")

    def open(self, key: str) -> int | None:
        """An entry, open for reading and safe from eviction until closed; None if there is none."""
        path = self.place("shards", key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        # Locked: it is being evicted. Without a name: it was, between the two calls.
        if not lock(descriptor, fcntl.LOCK_SH) or os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            return None
        with contextlib.suppress(PermissionError):
            os.utime(descriptor)  # last use
        return descriptor

    def holds(self, key: str) -> bool:
        """Whether there is such an entry."""
        return self.place("shards", key).exists()

    def get(
        self,
        key: str,
        size: int,
        fill: Callable[[Part], None],
        patience_s: float,
        check: Callable[[], None] = lambda: None,
    ) -> int:
        """The entry, open as by :meth:`open`; made by ``fill`` if there is none, by one process for all.

        Args:
            key: see :meth:`key`.
            size: bytes to set aside at first.
            fill: writes the file.
            patience_s: how long to wait for others to close what they read; 0 raises Full at once.
            check: called while waiting; what it raises ends the wait.

        Raises:
            InputError: the cache is too small.
        """
        if (found := self.open(key)) is not None:
            return found
        self.prepare()
        with hold(self.place("locks", key), check):
            with hold(self.place("locks", "cache")):  # else one that was only looked at for eviction seems gone
                found = self.open(key)
            if found is not None:
                return found
            with self.part(key, size, patience_s, check) as part:
                fill(part)
                return self._publish(part)

    @contextlib.contextmanager
    def part(self, key: str, size: int, patience_s: float, check: Callable[[], None] = lambda: None) -> Iterator[Part]:
        """A new file in the making, gone afterwards unless it was published."""
        self.prepare()
        made: list[Part] = []

        def begin() -> bool:
            if self.make_room(size):
                made.append(Part(self, key, size))
            return bool(made)

        try:
            self.within(begin, size, patience_s, check)
            yield made[0]
        except OSError as error:
            raise RunError(f"cache '{self.folder}' cannot be written: {error.strerror}") from None
        finally:
            for part in made:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part.path)
                release(part.descriptor)

    def _publish(self, part: Part) -> int:
        reader = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        with hold(self.place("locks", "cache")):  # others look at parts and shards under this lock alone
            fcntl.flock(part.descriptor, fcntl.LOCK_SH)
            fcntl.flock(reader, fcntl.LOCK_SH)
            os.replace(part.path, self.place("shards", part.key))
        return reader

    def within(
        self, step: Callable[[], bool], size: int, patience_s: float, check: Callable[[], None] = lambda: None
    ) -> None:
        """Calls ``step`` under the lock of the cache until it is true.

        Raises:
            InputError: ``size`` bytes never fit, or not within ``patience_s``; Full if that is 0.
        """
        if size > self.max_size:
            raise InputError(
                f"cache.max_size, {self.max_size} bytes, is smaller than a shard of {size} bytes; raise it"
            )
        end = time.monotonic() + patience_s
        while True:
            with hold(self.place("locks", "cache")):
                if step():
                    return
            if not patience_s:
                raise Full
            check()
            if time.monotonic() > end:
                raise InputError(
                    f"cache.max_size, {self.max_size} bytes, is too small: all that is in '{self.folder}' was in use "
                    f"for {patience_s:.0f} s, and {size} bytes more are needed; raise it, or use fewer workers"
                )
            time.sleep(_POLL_S)

    def make_room(self, size: int, own: str = "") -> bool:
        """Evicts what was used longest ago until ``size`` bytes fit; False, and nothing gone, if they cannot.

        Call it under the cache's lock. ``own`` is a part that ``size`` is for: it does not count by itself.
        """
        for left in os.scandir(self.folder / "locks"):
            sweep(Path(left.path))
        used = size + sum(self._reserved(entry) for entry in os.scandir(self.folder / "parts") if entry.name != own)
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
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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

    @staticmethod
    def _reserved(entry: os.DirEntry[str]) -> int:
        """Bytes set aside for a part; one that nobody makes any more is removed."""
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # its maker gave up just now
            return 0
        dead = lock(descriptor, fcntl.LOCK_SH)
        if dead:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
            release(descriptor)
            return 0
        os.close(descriptor)
        return int(entry.name.split(".")[1])
