"""Where shards come from: the name of a shard in, an open descriptor on a plain tar out."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import braceexpand

from data.errors import InputError, RunError
from data.store import remote
from data.store import url as urls
from data.store.cache import Cache
from data.store.entry import Entry, entry_key, open_local, pipe_key
from data.store.prefetch import Prefetcher
from data.store.sidecar import Sidecars

INDEX = ".idx"
_STAMPS = 1 << 16
_CHANGES = 3


@dataclass(frozen=True)
class Stamp:
    """What tells one version of a shard from another: its size as stored, and mtime_ns (local) or etag (remote)."""

    bytes: int
    token: str


class Store:
    """Shards by name: paths, ``file:``, ``s3://``, ``gs://``, ``az://``, ``http(s)://`` and allowed ``pipe:``.

    Plain local tars are opened where they are. All others come through the cache: transferred, unpacked or spooled once
    for all processes of the host. May be pickled and forked; what runs in the background stays with its process.

    Args:
        cache: None for one in its usual place.
        deadline_s: how long a transfer may be without any progress, through all attempts.
        allowed_pipes: patterns that begin with ``pipe:``, exactly as they are written in a source.
        parallel: transfers at a time in the background.
    """

    def __init__(
        self,
        cache: Cache | None = None,
        deadline_s: float = 300.0,
        allowed_pipes: Sequence[str] = (),
        parallel: int = 2,
    ) -> None:
        self.cache = cache or Cache()
        self.deadline_s = deadline_s
        self.parallel = parallel
        self._allowed = frozenset(name for one in allowed_pipes for name in (one.strip(), *_braces(one.strip())))
        self._stamps: OrderedDict[str, Stamp] = OrderedDict()
        self._background: tuple[int, Prefetcher] | None = None
        """Process and prefetcher."""
        self._sidecars = Sidecars(deadline_s)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_background": None, "_stamps": OrderedDict(self._stamps)}

    def remote(self, url: str) -> bool:
        """Whether the shard must be transferred before it can be read."""
        return urls.remote(url)

    def cached(self, url: str) -> bool:
        """Whether the shard is read from the cache: an open descriptor then keeps its bytes there occupied."""
        return self.remote(url) or urls.packed(url)

    def holds(self, url: str) -> bool:
        """Whether :meth:`fetch` returns at once. Asks for the version of a remote shard if that is not known yet."""
        if not self.cached(url):
            return True
        if urls.scheme(url) == "pipe":
            return self.cache.holds(pipe_key(url))
        stamp = self.stamp(url)
        return self.cache.holds(entry_key(url, stamp.token, stamp.bytes))

    def stamp(self, url: str) -> Stamp:
        """Size and version of the shard as it is stored; for a pipe that of its output.

        A remote one is asked for once: a run is about the version that it saw first.

        Raises:
            InputError: there is no such shard, or it may not be read.
            RunError: it cannot be reached.
        """
        return self._stamp(url, None)

    def _stamp(self, url: str, cancelled: threading.Event | None) -> Stamp:
        scheme = urls.scheme(url)
        if scheme == "pipe":
            descriptor = self._fetch(url, self.deadline_s, cancelled)
            try:
                return Stamp(os.fstat(descriptor).st_size, "pipe")
            finally:
                os.close(descriptor)
        if scheme not in urls.REMOTE:
            path = urls.local(url)
            try:
                stat = os.stat(path)
            except OSError as error:
                raise InputError(f"shard '{path}' cannot be read: {error.strerror}") from None
            return Stamp(stat.st_size, str(stat.st_mtime_ns))
        if (known := self._stamps.get(url)) is None:
            answer = remote.call("head", url, self.deadline_s, cancelled)
            self._stamps[url] = known = Stamp(answer["bytes"], answer["token"])
            while len(self._stamps) > _STAMPS:
                self._stamps.popitem(last=False)
        return known

    def fetch(self, url: str) -> int:
        """An open read-only descriptor on the complete plain tar; the caller closes it, and waits for nothing before.

        What this process keeps open of caches is closed first if the shard must be waited for, see
        :mod:`data.store.held`.

        Raises:
            InputError: there is no such shard, it may not be read, or the cache is too small.
            RunError: it cannot be had within the deadline, the disk is full, or it was replaced since its stamp was
                taken.
        """
        return self._fetch(url, self.deadline_s, None)

    def _fetch(
        self,
        url: str,
        patience_s: float,
        cancelled: threading.Event | None,
    ) -> int:
        scheme = urls.scheme(url)
        if not self.cached(url):
            return open_local(url)
        entry = Entry(self.cache, self.deadline_s, patience_s, cancelled)
        if scheme == "pipe":
            self.check_pipe(url)
            return entry.pipe(url)
        for _ in range(_CHANGES):
            asked = url in self._stamps
            stamp = self._stamp(url, cancelled)
            try:
                return entry.shard(url, stamp.bytes, stamp.token)
            except remote.Changed as error:
                if asked:
                    raise RunError(f"{error}; a run needs its shards to stay as they are") from None
                self._stamps.pop(url, None)  # another thread may have seen it too
        raise RunError(f"shard '{urls.shown(url)}' is replaced again and again while it is read")

    def note(self, url: str) -> str:
        """What was wrong with a shard before it was a tar (a gzip file that ends early), known once it was fetched."""
        if not urls.packed(url):
            return ""
        stamp = self.stamp(url)
        try:
            return self.cache.place("notes", entry_key(url, stamp.token, stamp.bytes)).read_text()
        except FileNotFoundError:
            return ""

    def index_places(self, url: str) -> list[Path]:
        """Where an index of the shard may be kept, the first before the others.

        Beside a local shard, then in the cache. An index that lies beside a remote shard is copied there.
        """
        key = pipe_key(url) if urls.scheme(url) == "pipe" else entry_key(url)
        place = self.cache.place("index", key + INDEX)
        if not self.remote(url):
            return [Path(urls.local(url) + INDEX), place]
        if not place.exists():
            with contextlib.suppress(OSError):
                self.cache.prepare()
                stamp = self.stamp(url)
                self._sidecars.copy(url, stamp.bytes, stamp.token, place)
        return [place]

    def listing(self, prefix: str) -> list[str]:
        """The names of all objects below a remote folder, ``s3://bucket/folder/``."""
        place = "/".join(prefix.split("/")[:3])
        return [f"{place}/{key}" for key in remote.call("list", prefix, self.deadline_s)["names"]]

    def check_pipe(self, pattern: str) -> None:
        """Refuses a command that is not allowed.

        Raises:
            InputError: it is not.
        """
        if pattern not in self._allowed:
            raise InputError(
                f"shards '{pattern}': this runs a command in a shell; if you trust it, allow exactly this text: "
                f"cache.allowed_pipes=['{pattern}'] for a run, --allow-pipe '{pattern}' for other commands"
            )

    def prefetch(self, urls: Iterable[str]) -> None:
        """Fetches these in the background, in this order, instead of what was asked for before and has not begun.

        As many as fit into half of the cache; what is in use is never evicted for them. Errors show when the shard is
        fetched.
        """
        if self._background is None or self._background[0] != os.getpid():
            fetcher = Prefetcher(
                lambda url, cancelled: self._fetch(url, 0.0, cancelled),
                lambda url, cancelled: self._stamp(url, cancelled).bytes,
                self.cache.max_size // 2,
                self.parallel,
            )
            self._background = os.getpid(), fetcher
        self._background[1].ask(url for url in urls if self.cached(url))

    def settled(self, timeout_s: float) -> bool:
        """Waits for what runs in the background; whether it ended within the time."""
        return self._background is None or self._background[0] != os.getpid() or self._background[1].wait(timeout_s)

    def close(self) -> None:
        """Ends what runs in the background of this process."""
        if self._background is not None and self._background[0] == os.getpid():
            self._background[1].close()
        self._background = None


def _braces(pattern: str) -> list[str]:
    try:
        return list(braceexpand.braceexpand(pattern, escape=False))
    except ValueError:
        return [pattern]
