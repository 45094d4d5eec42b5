"""Goes over all shards of a pattern: what each holds, and its samples in chunks that processes share out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data.errors import InputError
from data.shards import index
from data.shards.manifest import ShardList
from data.shards.pattern import expand
from data.shards.source import Source
from data.shards.summary import Summary
from data.store.store import Store
from pretrain.verbs import crew

_CHUNK = 64
_OPEN = 2


class Chunk(NamedTuple):
    """Some samples of a shard."""

    url: str
    numbers: range

    @property
    def size(self) -> int:
        """How many."""
        return len(self.numbers)


class Indexed(NamedTuple):
    """What the index of a shard says."""

    summary: Summary
    token: str


class Indexing:
    """Finds or makes the index of a shard."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, url: str) -> Indexed:
        """See :class:`Indexed`."""
        summary, stamp = index.summary_of(url, self.store)
        return Indexed(summary, stamp.token)


def summaries(shards: ShardList, store: Store, workers: int) -> Iterator[Summary]:
    """What each shard holds, from its manifest, else from its index, which is made where there is none."""
    known = [shards.known(number) for number in range(len(shards))]
    unknown = [url for url, summary in zip(shards.urls, known, strict=True) if summary is None]
    found = crew.work(Indexing(store), unknown, workers, "indexing", len(unknown))
    for summary in known:
        yield summary if summary is not None else next(found)[1].summary


def chunks(urls: Sequence[str], counts: Sequence[int], samples: int | None = None) -> Iterator[Chunk]:
    """The samples of all shards in chunks; with ``samples`` about so many of them, evenly spread.

    Raises:
        InputError: ``samples`` is less than 1.
    """
    step = stride(sum(counts), samples)
    before = 0
    for url, count in zip(urls, counts, strict=True):
        wanted = range(-before % step, count, step)
        for first in range(0, len(wanted), _CHUNK):
            yield Chunk(url, wanted[first : first + _CHUNK])
        before += count


def stride(total: int, samples: int | None) -> int:
    """Every how many-th sample is taken.

    Raises:
        InputError: ``samples`` is less than 1.
    """
    if samples is not None and samples < 1:
        raise InputError(f"--samples {samples} is not 1 or more")
    return max(1, total // samples) if samples else 1


def shards_of(name: str, pattern: str | Sequence[str], store: Store) -> ShardList:
    """The shards of a source.

    Raises:
        InputError: nothing matches, with the name of the source.
    """
    try:
        return expand(pattern, store)
    except InputError as error:
        raise InputError(f"source '{name}': {error}") from None


class Shards:
    """Opens shards as training does, and keeps the last few open."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._open: OrderedDict[str, Source] = OrderedDict()

    def source(self, url: str) -> Source:
        """The shard as a source of its own."""
        if url not in self._open:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[url] = Source(url, [url], self.store)
        return self._open[url]
