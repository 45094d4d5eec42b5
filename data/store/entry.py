"""One shard into the cache: transferred, unpacked or spooled."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from data.errors import InputError, check_files
from data.store import held, remote, unpack
from data.store import url as urls
from data.store.cache import Cache, Part


def open_local(url: str) -> int:
    """A descriptor on a local file, for reading.

    Raises:
        InputError: it cannot be read.
        OutOfFiles: too many others are open.
    """
    path = urls.local(url)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        check_files(error, path)
        raise InputError(f"shard '{path}' cannot be read: {error.strerror}") from None


def entry_key(url: str, *version: object) -> str:
    """Name of the entry of a version of a shard."""
    return Cache.key(url if urls.remote(url) else os.path.realpath(urls.local(url)), *version)


def pipe_key(url: str) -> str:
    """Name of the entry of a command's output: what ``cat x.tar`` prints depends on where it runs.

    Raises:
        InputError: the folder that it would run in is gone.
    """
    try:
        return entry_key(url, os.getcwd())
    except FileNotFoundError:
        raise InputError(f"shard '{url}': the folder in which to run the command is not there any more") from None


@dataclass(frozen=True)
class Entry:
    """How an entry is got.

    Attributes:
        cache: where.
        deadline_s: how long a transfer may be without progress.
        patience_s: how long to wait for room, with nothing of the process kept open; 0: not at all.
        cancelled: ends it when set.
    """

    cache: Cache
    deadline_s: float
    patience_s: float
    cancelled: threading.Event | None = None

    def shard(self, url: str, size: int, token: str) -> int:
        """A descriptor on the plain tar of version ``token`` of a shard of ``size`` bytes."""
        key = entry_key(url, token, size)

        def download(part: Part) -> None:
            remote.call("get", url, self.deadline_s, self.cancelled, path=str(part.path), bytes=size, token=token)

        def unpacked(part: Part) -> None:
            name = urls.shown(url)
            if urls.remote(url):
                with self.cache.part(key, 0, self.patience_s, self._check) as packed:  # room is in that of the other
                    download(packed)
                    note = unpack.gunzip(packed.descriptor, part, name, size)
            else:
                with open(open_local(url), "rb", buffering=0) as file:
                    note = unpack.gunzip(file.fileno(), part, name)
            self._set_note(key, note)

        if urls.packed(url):
            room = unpack.room(size, urls.remote(url), self.cache)
            return self.cache.get(key, room, unpacked, self.patience_s, self._check)
        return self.cache.get(key, size, download, self.patience_s, self._check)

    def pipe(self, url: str) -> int:
        """A descriptor on the output of a command."""

        def spooled(part: Part) -> None:
            unpack.spool(url.removeprefix("pipe:"), part, self.deadline_s)

        return self.cache.get(pipe_key(url), 0, spooled, self.patience_s, self._check)

    def _set_note(self, key: str, note: str) -> None:
        place = self.cache.place("notes", key)
        if note:
            place.write_text(note)
        else:
            place.unlink(missing_ok=True)

    def _check(self) -> None:
        if self.cancelled is not None and self.cancelled.is_set():
            raise remote.Cancelled
        if self.patience_s:
            held.let_go()
