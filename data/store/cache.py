"""A folder of shards that is bounded in bytes and shared by all processes of a host, also by those of several runs.

``shards/KEY`` is a complete tar; ``parts/KEY.BYTES.RANDOM`` one in the making, for which BYTES are set aside; ``index``
holds shard indexes and ``notes`` what was wrong with a shard before it was a tar. Who reads or makes a file holds a
lock on its descriptor; a part without one was left by a process that died. Who waits for room: :mod:`data.store.space`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from data.errors import InputError, RunError, check_files
from data.store.bytesize import parse_size
from data.store.locks import hold, lock, release
from data.store.space import Full, Space


class Part:
    """A file in the making, with bytes of the cache set aside for it."""

    def __init__(self, cache: Cache, key: str, size: int, patience_s: float, check: Callable[[], None]) -> None:
        self.cache = cache
        self.key = key
        self.size = size
        self.path = cache.folder / "parts" / f"{key}.{size}.{secrets.token_hex(4)}"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._patience_s, self._check = patience_s, check
        lock(self.descriptor, fcntl.LOCK_EX)

    def grow(self, size: int) -> None:
        """Sets aside ``size`` bytes in all.

        Raises:
            InputError: the cache is too small.
            Full: the file must be given up, as others wait for its bytes.
        """

        def grown() -> bool:
            if not self.cache.space.make(size, self.path.name):
                return False
            path = self.path.with_name(f"{self.key}.{size}.{secrets.token_hex(4)}")
            os.rename(self.path, path)
            self.path, self.size = path, size
            return True

        if size > self.size:
            self.cache.space.take(grown, size, self._patience_s, self._check, self.path.name)


def usual_folder() -> str:
    """``pretrain`` in the user's folder for caches.

    Raises:
        InputError: the user has no home.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return str(Path(named or Path.home() / ".cache", "pretrain"))
    except RuntimeError:  # as a user that the host does not know, without HOME: some containers and schedulers
        raise InputError("there is no home folder for a cache; set HOME or XDG_CACHE_HOME") from None


class Cache:
    """The folder. Nothing is made or read before it is needed; picklable.

    Args:
        folder: null for ``pretrain`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Best on a disk of the host itself.
        max_size: bytes, or a text such as ``50GB``. Indexes are not counted; they are some thousandths of the shards.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_size: str | int = "50GB") -> None:
        self.folder = Path(folder or usual_folder()).expanduser().absolute()
        self.max_size = parse_size(max_size)
        self.space = Space(self.folder, self.max_size)

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
        """An entry, open for reading and safe from eviction until closed; None if there is none.

        Raises:
            RunError: it cannot be opened.
        """
        path = self.place("shards", key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            check_files(error, str(path))
            raise RunError(f"cache '{self.folder}' cannot be read: {error.strerror}") from None
        # Locked: it is being evicted. Without a name: it was, between the two calls.
        if not lock(descriptor, fcntl.LOCK_SH) or os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):  # of another user, or on a disk that is only read
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
            fill: writes the file; called again if it was in the way of others.
            patience_s: how long to wait for others to close what they read; 0 raises Full at once.
            check: called before waiting for anything, and while waiting; what it raises ends the wait.

        Raises:
            InputError: the cache is too small.
            RunError: it cannot be read or written.
        """
        if patience_s and self.space.awaited():
            check()
            self.space.let_others_in(patience_s, check)
        if (found := self.open(key)) is not None:
            return found
        self.prepare()
        check()
        with self._writing(), hold(self.place("locks", key), check):
            with self.space.alone():  # else one that was only looked at for eviction seems gone
                found = self.open(key)
            if found is not None:
                return found
            while True:
                try:
                    with self.part(key, size, patience_s, check) as part:
                        fill(part)
                        return self._publish(part)
                except Full:
                    if not patience_s:
                        raise
                    size = min(self.max_size, max(2 * size, self.max_size // 4))  # in the end it need not grow

    @contextlib.contextmanager
    def part(self, key: str, size: int, patience_s: float, check: Callable[[], None] = lambda: None) -> Iterator[Part]:
        """A new file in the making, gone afterwards unless it was published.

        Raises:
            RunError: it cannot be written.
        """
        self.prepare()
        made: list[Part] = []

        def begin() -> bool:
            if self.space.make(size):
                made.append(Part(self, key, size, patience_s, check))
            return bool(made)

        with self._writing():
            try:
                self.space.take(begin, size, patience_s, check)
                yield made[0]
            finally:
                for part in made:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part.path)
                    release(part.descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            check_files(error, str(self.folder))
            raise RunError(f"cache '{self.folder}' cannot be written: {error.strerror}") from None

    def _publish(self, part: Part) -> int:
        reader = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        with self.space.alone():  # others look at parts and shards under this lock alone
            fcntl.flock(part.descriptor, fcntl.LOCK_SH)
            fcntl.flock(reader, fcntl.LOCK_SH)
            os.replace(part.path, self.place("shards", part.key))
        return reader
