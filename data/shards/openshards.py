"""The shards that are open: their indexes and descriptors, a bounded number of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar
from weakref import WeakValueDictionary

from data.errors import InputError, OutOfFiles, SampleError
from data.shards import index
from data.shards.manifest import ShardList
from data.shards.mapped import Mapped
from data.shards.shardindex import ShardIndex
from data.store import held
from data.store.store import Store
from data.store.url import base

FILES = 256
"""As many as are shuffled together by default (order.window); the process raises its limit of open files.

Of a source: where all of them together come to that limit, each lets go of some.
"""
CACHED_FILES = 2
"""Of shards that are read from the cache, and only during a piece of work, see :mod:`data.store.held`."""
INDEX_BYTES = 256 * 2**20
"""Of a source. FILES shards of 256 MB with documents of 4 KB take 150 MB. Where the indexes of what is shuffled
together does not fit, most samples wait for one to be read and its shard to be mapped anew: 25 ms instead of 15 us."""

Got = TypeVar("Got")


class Opened:
    """One open shard. It is closed when nobody holds it any more.

    Attributes:
        name: base name of the shard.
        index: where its samples lie.
        file: descriptor on the plain tar.
        mapped: the same, where it lies in memory.
        version: a number that another file under this name, or this one written anew, would hardly have.
    """

    __slots__ = ("file", "index", "mapped", "name", "version")

    def __init__(self, name: str, index: ShardIndex, file: int, soon_closed: bool) -> None:
        self.name, self.index, self.file = name, index, file
        # To map all of it for some samples would cost more than it saves.
        self.mapped = Mapped(file, len(index), len(index) if soon_closed else 0)
        stat = os.fstat(file)
        self.version = hash((stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def __del__(self) -> None:
        os.close(self.file)


class OpenShards:
    """Opens shards by number and keeps those that were used last; of a cache, only while it is worked with.

    Args:
        shards: what is known of them.
        store: where they come from.
        versions: shard -> token of the version that ``shards`` speaks of, where it is known.
    """

    def __init__(self, shards: ShardList, store: Store, versions: Mapping[int, str]) -> None:
        self._shards = shards
        self._store = store
        self._versions = dict(versions)
        self._begin()

    def seen(self) -> list[int]:
        """The shards whose version is known: they were there when they were asked for."""
        return list(self._versions)

    def close(self) -> None:
        """Lets go of all of them."""
        # Plain dictionaries, oldest first, and no lock: threads may open a shard twice, but never wait after a fork.
        self._open: dict[int, Opened] = {}
        self._cached: dict[int, None] = {}
        self._indexes: dict[int, tuple[ShardIndex, int]] = {}

    def __getstate__(self) -> dict[str, object]:
        own = ("_shards", "_store", "_versions")  # descriptors belong to the process that opened them
        return {name: self.__dict__[name] for name in own}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self.close()
        _every[id(self)] = self

    def __call__(self, shard: int) -> Opened:
        """The open shard.

        Raises:
            SampleError: it cannot be opened, or is another than it was.
            RunError: it cannot be had from afar, or something else of the process has too many files open.
        """
        opened = self._open.pop(shard, None)
        if opened is None:
            opened = self._opened(shard)
            if self._store.cached(self._shards.urls[shard]):
                return self._kept(shard, opened)
        self._open[shard] = opened
        return opened

    def several(self, shards: Iterable[int]) -> dict[int, Opened]:
        """Those of ``shards`` that can be opened, by number; to be held for a moment only.

        Raises:
            RunError: one cannot be had from afar.
        """
        open_, found = self._open, {}
        for shard in shards:
            opened = open_.get(shard)
            if opened is None:
                try:
                    opened = self(shard)
                except (SampleError, OutOfFiles):  # one at a time may still go
                    continue
            found[shard] = opened
        return found

    def index(self, shard: int) -> ShardIndex:
        """Its index; the shard need not be open, and does not stay so.

        Raises:
            SampleError: it cannot be read, or is another than it was.
            RunError: it cannot be had from afar.
        """
        opened = self._open.get(shard)
        if opened is not None:
            return opened.index
        try:
            return self._index(shard, self._shards.urls[shard])
        except InputError as error:  # it was there when the run began
            raise SampleError(str(error)) from None

    def _opened(self, shard: int) -> Opened:
        url, index_ = self._shards.urls[shard], self.index(shard)
        cached = self._store.cached(url)
        try:
            opened = Opened(base(url), index_, _with_room(lambda: self._store.fetch(url)), cached)
        except InputError as error:
            if cached:  # a cache that is too small is no fault of a sample
                raise
            raise SampleError(str(error)) from None
        for oldest in list(self._open)[: max(0, len(self._open) - FILES + 1)]:
            self._open.pop(oldest, None)
        return opened

    def _kept(self, shard: int, opened: Opened) -> Opened:
        """``opened``, which is read from a cache, and stays open if it may."""
        if held.keep(self.let_go):
            self._cached.pop(shard, None)
            for oldest in list(self._cached)[: max(0, len(self._cached) - CACHED_FILES + 1)]:
                self._cached.pop(oldest, None)
                self._open.pop(oldest, None)
            self._cached[shard] = None
            self._open[shard] = opened
        return opened

    def halve(self) -> None:
        """Closes the half that was used longest ago."""
        for oldest in list(self._open)[: (len(self._open) + 1) // 2]:
            self._open.pop(oldest, None)

    def let_go(self) -> None:
        """Closes what keeps bytes of a cache occupied."""
        for shard in list(self._cached):
            self._cached.pop(shard, None)
            self._open.pop(shard, None)

    def _index(self, shard: int, url: str) -> ShardIndex:
        found, size = self._indexes.pop(shard, (None, 0))
        if found is None:  # its version may have to be asked for, and itself to be fetched
            held.let_go()
        if found is None or not self._store.remote(url):
            stamp = self._store.stamp(url)
            if self._versions.setdefault(shard, stamp.token) != stamp.token:
                raise SampleError("the shard was changed while it was in use")
        if found is None:
            found = _with_room(lambda: index.of(url, self._store))
            expected = int(self._shards.samples[shard])
            if len(found) != expected:
                raise SampleError(f"the shard holds {len(found)} samples, its manifest says {expected}")
            size = found.nbytes
            left = sum(bytes_ for _, bytes_ in list(self._indexes.values())) + size - INDEX_BYTES
            for oldest, (_, bytes_) in list(self._indexes.items()):
                if left <= 0:
                    break
                left -= bytes_
                self._indexes.pop(oldest, None)
                self._open.pop(oldest, None)
        self._indexes[shard] = found, size
        return found


_every: WeakValueDictionary[int, OpenShards] = WeakValueDictionary()
"""Those of the process."""


def _with_room(open_: Callable[[], Got]) -> Got:
    """What ``open_`` returns, tried again with fewer shards open if there were too many.

    Raises:
        OutOfFiles: that did not help.
    """
    try:
        return open_()
    except OutOfFiles:
        for one in _every.valuerefs():
            if (shards := one()) is not None:
                shards.halve()
        return open_()
