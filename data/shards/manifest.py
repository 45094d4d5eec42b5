"""A list of shards with what is known of each, small enough for a million of them; and the file that holds one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from data.errors import InputError
from data.shards.summary import Summary
from data.store import url as urls_of

_BATCH = 4096


class ShardList:
    """S shards, in order, and their summaries where a manifest gives them.

    Attributes:
        urls: S names.
        samples: (S,) int64; -1 where unknown.
        bytes: (S,) int64, size of each tar as stored; -1 where unknown.
    """

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.samples = np.full(len(urls), -1, np.int64)
        self.bytes = np.full(len(urls), -1, np.int64)
        # Shards mostly have the same members in nearly all samples: a profile is extension -> samples without it.
        self._profile = np.full(len(urls), -1, np.int32)
        self._profiles: list[tuple[tuple[str, int], ...]] = []
        self._damage: dict[int, tuple[str, ...]] = {}
        self._numbers: dict[tuple[tuple[str, int], ...], int] = {}

    def __len__(self) -> int:
        return len(self.urls)

    def known(self, i: int) -> Summary | None:
        """What the manifest says of shard ``i``; None if no manifest names it."""
        if self._profile[i] < 0:
            return None
        samples = int(self.samples[i])
        members = {extension: samples - lacking for extension, lacking in self._profiles[self._profile[i]]}
        return Summary(samples, int(self.bytes[i]), members, self._damage.get(i, ()))

    def learn(self, i: int, summary: Summary) -> None:
        """Takes in what the index of shard ``i`` says of it."""
        self.samples[i], self.bytes[i] = summary.samples, summary.bytes
        profile = tuple((extension, summary.samples - count) for extension, count in summary.members.items())
        if not self._numbers:
            self._numbers = {known: number for number, known in enumerate(self._profiles)}
        if profile not in self._numbers:
            self._numbers[profile] = len(self._profiles)
            self._profiles.append(profile)
        self._profile[i] = self._numbers[profile]
        if summary.damage:
            self._damage[i] = summary.damage

    def unproven(self, wanted: tuple[str, ...]) -> np.ndarray:
        """Numbers of the shards of which it is not known that every sample has one of ``wanted``, int64."""
        proven = [any((extension, 0) in profile for extension in wanted) for profile in self._profiles]
        return np.flatnonzero(~np.array([*proven, False])[self._profile])

    def damage(self) -> dict[int, tuple[str, ...]]:
        """Shard -> what is damaged in it, in order."""
        return dict(sorted(self._damage.items()))

    @classmethod
    def parse(cls, lines: Iterable[str], place: str) -> ShardList:
        """The shards of a manifest: one JSON object a line.

        Args:
            lines: ``{"shard": name, "samples": n, "bytes": n, "members": {extension: samples}, "damage": [...]}``;
                all but the name and the samples may be missing. Other keys are for those who write the file.
            place: name of the manifest; relative shard names are taken from its folder.

        Raises:
            InputError: a line that is not as above, with its number.
        """
        urls: list[str] = []
        samples, sizes, profiles = [], [], []
        numbers: dict[tuple[tuple[str, int], ...], int] = {}
        whole: dict[tuple[str, ...], int] = {}  # profiles in which nothing is lacking, by their extensions
        damage: dict[int, tuple[str, ...]] = {}
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32))]
        folder = urls_of.folder(place)
        for row in _rows(lines, place):
            try:
                name, count, size, members = row["shard"], row["samples"], row.get("bytes", -1), row.get("members", {})
                names = tuple(members)
                if list(members.values()).count(count) == len(names):
                    profile = whole.get(names, -1)
                    if profile < 0:
                        profile = whole[names] = numbers.setdefault(tuple((e, 0) for e in names), len(numbers))
                else:
                    if not all(0 <= n <= count for n in members.values()):
                        raise KeyError
                    profile = numbers.setdefault(tuple((e, count - n) for e, n in members.items()), len(numbers))
                if not name:
                    raise KeyError  # it would be the folder
                if row.get("damage"):
                    damage[len(urls)] = tuple(row["damage"])
                if not urls_of.absolute(name):
                    name = folder + name
                elif name[0] != "/" and not _known(name):
                    raise KeyError
                urls.append(name)
                samples.append(count)
                sizes.append(size)
                profiles.append(profile)
            except (KeyError, TypeError, AttributeError):
                raise InputError(
                    f"manifest '{urls_of.shown(place)}', shard {len(urls) + 1}: {_expected(row)}"
                ) from None
            if len(samples) == _BATCH:
                parts.append(_columns(samples, sizes, profiles, place, len(urls)))
                samples, sizes, profiles = [], [], []
        parts.append(_columns(samples, sizes, profiles, place, len(urls)))
        found = cls.__new__(cls)
        found.urls, found._numbers = urls, {}
        found.samples, found.bytes, found._profile = (np.concatenate(column) for column in zip(*parts, strict=True))
        found._profiles = list(numbers)
        found._damage = damage
        return found

    @classmethod
    def join(cls, lists: list[ShardList]) -> ShardList:
        """The shards of all ``lists`` one after another; one that is named twice is taken once, as where it is first.

        Paths are compared, not how they are written.
        """
        if len(lists) == 1:
            joined = lists[0]
        else:
            joined = cls.__new__(cls)
            joined.urls = [url for one in lists for url in one.urls]
            joined.samples = np.concatenate([one.samples for one in lists])
            joined.bytes = np.concatenate([one.bytes for one in lists])
            numbers: dict[tuple[tuple[str, int], ...], int] = {}
            columns, joined._damage, at = [], {}, 0
            for one in lists:
                renumber = np.array([numbers.setdefault(p, len(numbers)) for p in one._profiles] + [-1], np.int32)
                columns.append(renumber[one._profile])
                joined._damage.update((at + i, lines) for i, lines in one._damage.items())
                at += len(one)
            joined._profile = np.concatenate(columns)
            joined._profiles, joined._numbers = list(numbers), {}
        return joined._once()

    def _once(self) -> ShardList:
        ascending = all(a < b for a, b in zip(self.urls, islice(self.urls, 1, None), strict=False))
        if ascending and urls_of.distinct(self.urls):
            return self  # as most are: no set of a million names is needed
        first: dict[str, int] = {}
        for i, identity in enumerate(urls_of.identities(self.urls)):
            first.setdefault(identity, i)
        if len(first) == len(self.urls):
            return self
        kept = np.fromiter(first.values(), np.int64, len(first))
        found = ShardList([self.urls[i] for i in first.values()])
        found.samples, found.bytes, found._profile = self.samples[kept], self.bytes[kept], self._profile[kept]
        found._profiles = self._profiles
        found._damage = {new: self._damage[old] for new, old in enumerate(kept.tolist()) if old in self._damage}
        return found


def _rows(lines: Iterable[str], place: str) -> Iterator[dict]:
    """The objects of the lines; many are parsed at once, which takes half the time."""
    stream, at = iter(lines), 0
    while batch := list(islice(stream, _BATCH)):
        try:
            rows = json.loads("[" + ",".join(line for line in batch if not line.isspace()) + "]")
            if len(rows) > len(batch):
                raise ValueError
        except ValueError:
            rows = [_row(line, at + n, place) for n, line in enumerate(batch, 1) if not line.isspace()]
        at += len(batch)
        yield from rows


def _row(line: str, number: int, place: str) -> dict:
    try:
        return json.loads(line)
    except ValueError:
        raise InputError(
            f"manifest '{urls_of.shown(place)}', line {number}: not a JSON object: '{line.strip()[:60]}'"
        ) from None


def _columns(samples: list, sizes: list, profiles: list, place: str, at: int) -> tuple:
    try:
        counts, lengths = np.array(samples), np.array(sizes)
        if samples and not (counts.dtype == lengths.dtype == np.int64 and counts.min() >= 0):
            raise ValueError
        return counts.astype(np.int64), lengths.astype(np.int64), np.array(profiles, dtype=np.int32)
    except (ValueError, OverflowError):
        first = at - len(samples) + 1
        raise InputError(
            f"manifest '{urls_of.shown(place)}': samples or bytes of a shard in {first} to {at} is no whole number"
        ) from None


def _known(name: str) -> bool:
    # Most are written plainly, which is told faster; there may be a million.
    return name.partition("://")[0] in urls_of.SCHEMES or urls_of.scheme(name) in urls_of.SCHEMES


def _expected(row: object) -> str:
    wanted = '{"shard": name, "samples": number, "bytes": number, "members": {extension: number up to samples}}'
    return f"expected {wanted}, a name being a path or URL ({', '.join(urls_of.SCHEMES)}), found {str(row)[:100]}"
