"""A source: a named list of shards whose samples are read in any order."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from data.errors import InputError, SampleError
from data.sample import Sample
from data.shards import index
from data.shards.manifest import ShardList
from data.shards.openshards import Opened, OpenShards
from data.shards.pattern import expand
from data.store.store import Store
from data.store.url import base, scheme, shown

_AT_ONCE = 16
_NAMED = 4


class Source:
    """The samples of some shards, numbered shard after shard.

    Where a manifest says what a shard holds, the shard is not touched before a sample of it is read.

    Args:
        name: for messages and metrics.
        pattern: what :func:`data.shards.pattern.expand` takes.
        store: where shards come from.

    Attributes:
        urls: S names of shards.
        counts: (S,) int64, samples of each.
        bytes: (S,) int64, size of each as it is stored; -1 where a manifest does not say.
        damage: a line for each damaged place of a shard.

    Raises:
        InputError: nothing matches, or a shard cannot be read or holds no sample.
        RunError: a remote shard cannot be had.
    """

    def __init__(self, name: str, pattern: str | Sequence[str], store: Store | None = None) -> None:
        self.name = name
        self.pattern = pattern
        self.store = store or Store()
        try:
            self.shards = expand(pattern, self.store)
            versions = _learn(self.shards, self.store)
        except InputError as error:
            raise InputError(f"source '{name}': {error}") from None
        self.urls, self.counts, self.bytes = self.shards.urls, self.shards.samples, self.shards.bytes
        damage = self.shards.damage()
        empty = np.flatnonzero(self.counts == 0)
        if len(empty):
            why = damage.get(int(empty[0]), ())
            raise InputError(
                f"source '{name}': shard '{shown(self.urls[empty[0]])}' is empty" + (f" ({why[0]})" if why else "")
            )
        self.damage = [
            f"shard '{shown(self.urls[shard])}': {line} ({self.counts[shard]} samples are readable)"
            for shard, lines in damage.items()
            for line in lines
        ]
        self._ends = array("q", np.cumsum(self.counts).tobytes())
        self._starts = np.cumsum(self.counts) - self.counts
        self._open = OpenShards(self.shards, self.store, versions)

    def __len__(self) -> int:
        return self._ends[-1]

    def close(self) -> None:
        """Closes the shards that are open; reading opens them again."""
        self._open.close()

    def place(self, number: int) -> tuple[int, int]:
        """The shard of sample ``number``, and the sample's number there."""
        shard = bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`place` of many: (n,) int64 each."""
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        return shards, numbers - self._starts[shards]

    @cached_property
    def pinning(self) -> bool:
        """Whether an open shard keeps bytes of a cache occupied, of any shard."""
        return any(map(self.store.cached, self.urls))

    def open(self, shards: Iterable[int]) -> dict[int, Opened]:
        """Open shards; see :meth:`data.shards.openshards.OpenShards.several`."""
        return self._open.several(shards)

    def index(self, shard: int) -> index.ShardIndex:
        """Its index; whatever is open stays open."""
        return self._open.index(shard)

    def identity(self, number: int) -> tuple[str, str]:
        """(shard base name, key) of sample ``number``; its number in the shard where the key cannot be read."""
        shard, inner = self.place(number)
        try:
            opened = self._open(shard)
            return opened.name, opened.index.key(inner, opened.file)
        except (SampleError, OSError):
            return base(self.urls[shard]), f"(sample {inner})"

    def read(self, number: int) -> Sample:
        """Sample ``number``, undecoded.

        Raises:
            SampleError: its bytes cannot be read, or are not what the index of its shard says.
            RunError: its shard cannot be had from afar.
        """
        shard = bisect_right(self._ends, number)
        inner = number - (self._ends[shard - 1] if shard else 0)
        opened = self._open(shard)
        try:
            key, members = opened.index.read(inner, opened.file, opened.mapped.mapping())
        except OSError as error:
            raise SampleError(f"shard cannot be read: {error.strerror}") from None
        else:
            return Sample(opened.name, key, members)
        finally:
            del opened  # an error that somebody keeps would keep it open

    def reach(self, at_most: int) -> None:
        """Asks for some of the shards that only a manifest has spoken of so far, spread over all of them.

        Raises:
            InputError: one is not there, or is another than its manifest says.
            RunError: a remote one cannot be had.
        """
        listed = np.setdiff1d(np.arange(len(self.urls)), self._open.seen())
        spread = np.unique(np.linspace(0, len(listed) - 1, min(at_most, len(listed))).astype(int))
        chosen = [shard for shard in listed[spread].tolist() if scheme(self.urls[shard]) != "pipe"]

        def ask(shard: int) -> str | None:
            try:
                size = self.store.stamp(self.urls[shard]).bytes
            except InputError as error:
                return str(error)
            if size == self.bytes[shard] or self.bytes[shard] < 0:
                return None
            return f"shard '{shown(self.urls[shard])}' has {size} bytes, {self.bytes[shard]} by its manifest"

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            wrong = [(shard, line) for shard, line in zip(chosen, pool.map(ask, chosen), strict=True) if line]
        if wrong:
            raise InputError(f"source '{self.name}': {_together(wrong, self.shards)}")

    def require(self, needs: Mapping[str, tuple[str, ...]], max_share: float = 0.0) -> None:
        """Checks that the samples have one of the extensions of each need, all but ``max_share`` of them.

        Samples beside damage are let pass: what they lack is found when they are read, as with those few.

        Raises:
            InputError: naming a sample that lacks one, and what it has.
        """
        for what, wanted in needs.items():
            lacking, example = 0, ""
            for shard in self.shards.unproven(wanted).tolist():
                try:
                    count, line = self._lacking(shard, what, wanted)
                except (SampleError, OSError) as error:
                    raise InputError(f"source '{self.name}': shard '{shown(self.urls[shard])}': {error}") from None
                lacking, example = lacking + count, example or line
                if lacking > max_share * len(self):
                    raise InputError(f"source '{self.name}': {example}")

    def _lacking(self, shard: int, what: str, wanted: tuple[str, ...]) -> tuple[int, str]:
        """How many samples of a shard lack all of ``wanted``, and the first of them in words."""
        opened = self._open(shard)
        lacking = np.setdiff1d(opened.index.lacking(wanted), opened.index.doubtful)
        if not len(lacking):
            return 0, ""
        first = int(lacking[0])
        return len(lacking), (
            f"{len(lacking)} of {self.counts[shard]} samples of '{shown(self.urls[shard])}' "
            f"have no {what} member ({'|'.join(wanted)}); "
            f"'{opened.index.key(first, opened.file)}' has: {', '.join(sorted(opened.index.members(first)))}"
        )

    def listing(self) -> list[tuple[str, int, int]]:
        """(base name, samples, bytes) of each shard, in order."""
        return list(self._rows())

    def fingerprint(self) -> str:
        """SHA-256 over the names, sample counts and sizes of the shards, in order: what an order is made of."""
        digest = hashlib.sha256()
        for number, (name, samples, size) in enumerate(self._rows()):
            digest.update(f"{chr(10) * (number > 0)}{name}\t{samples}\t{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _rows(self) -> Iterator[tuple[str, int, int]]:
        step = 4096
        for at in range(0, len(self.urls), step):
            here = slice(at, at + step)
            names = map(base, self.urls[here])
            yield from zip(names, self.counts[here].tolist(), self.bytes[here].tolist(), strict=True)


def _learn(shards: ShardList, store: Store) -> dict[int, str]:
    """Learns what no manifest says, from the indexes; returns shard -> the version that was seen."""
    unknown = np.flatnonzero(shards.samples < 0).tolist()
    versions: dict[int, str] = {}
    wrong: list[tuple[int, str]] = []

    def look(shard: int) -> tuple[index.Summary, str] | InputError:
        try:
            found, stamp = index.summary_of(shards.urls[shard], store)
        except InputError as error:
            return error
        return found, stamp.token

    far = sum(store.remote(shards.urls[shard]) for shard in unknown) > 1
    with ThreadPoolExecutor(_AT_ONCE if far else 1) as pool:  # each waits for answers from afar
        for shard, found in zip(unknown, (pool.map if far else map)(look, unknown), strict=True):
            if isinstance(found, InputError):
                wrong.append((shard, str(found)))
            else:
                shards.learn(shard, found[0])
                versions[shard] = found[1]
    if wrong:
        raise InputError(_together(wrong, shards))
    return versions


def _together(wrong: list[tuple[int, str]], shards: ShardList) -> str:
    """One line about shards that are wrong: why the first is, and the names of some others."""
    others = [f"'{shown(shards.urls[shard])}'" for shard, _ in wrong[1 : 1 + _NAMED]]
    more = f", {len(wrong) - 1 - _NAMED} others" if len(wrong) - 1 > _NAMED else ""
    return wrong[0][1] + (f"; so it is with {', '.join(others)}{more}" if others else "")
