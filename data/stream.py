"""The endless stream of one task: position -> sample, over one source or a mixture of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.errors import InputError
from data.order.history import Part, Segment, go_on, same, segment_of
from data.order.mixture import Mixture, weights_by_size
from data.order.order import DEFAULT, Order, Ordering
from data.sample import Sample
from data.seeds import derive, generator
from data.shards.sources import SourceSpec, open_sources
from data.store.store import Store

_SPREAD_SHARDS = 16
"""Remote shards, each transferred whole, over which a few samples are spread."""


class Place(NamedTuple):
    """What stands at a position: sample ``number`` of source ``source``, in that source's epoch ``epoch``."""

    source: int
    epoch: int
    number: int


class Stream:
    """What a task trains on, addressed by position.

    Args:
        task: name of the task; part of every seed, so that two tasks over one source differ.
        spec: see :func:`data.shards.sources.open_sources`.
        seed: of the run.
        ordering: how samples are shuffled; None for held-out data: as they lie in the shards.
        alpha: draws sources in proportion to weight times size to the power of ``alpha``; None: to weight alone.
        store: where shards are read from and cached.

    Attributes:
        segments: what it was made of so far, first to last; one unless sources were changed on purpose.
    """

    def __init__(
        self,
        task: str,
        spec: SourceSpec,
        seed: int,
        ordering: Ordering | None = DEFAULT,
        alpha: float | None = None,
        store: Store | None = None,
    ) -> None:
        self.task = task
        self.seed = seed
        self.ordering = ordering
        self.store = store or Store()
        self.sources, weights = open_sources(task, spec, self.store)
        self._number = {source.name: number for number, source in enumerate(self.sources)}
        weights = weights_by_size(weights, [len(source) for source in self.sources], alpha)
        settings = (seed, ordering.window, ordering.streams) if ordering else (seed, 0, 0)
        parts = {s.name: Part(w, s.fingerprint()) for s, w in zip(self.sources, weights, strict=True)}
        self._now = Segment(0, settings, dict(sorted(parts.items())))
        Mixture(weights, 0)  # says what is wrong with a weight
        self._set([self._now])

    def __len__(self) -> int:
        """Samples of all sources together, the size of one pass over everything."""
        return sum(map(len, self.sources))

    @property
    def remote(self) -> bool:
        """Whether any of its shards must be transferred before it is read."""
        return any(self.store.remote(url) for source in self.sources for url in source.urls)

    @property
    def pinning(self) -> bool:
        """Whether an open shard keeps bytes of a cache occupied, of any source."""
        return any(source.pinning for source in self.sources)

    def _set(self, segments: Sequence[Segment]) -> None:
        self.segments = list(segments)
        self._begins = np.array([segment.position for segment in segments])
        self._mixtures = [segment.mixture(self.task) for segment in segments]
        self._orders: dict[tuple[int, str], Order] = {}

    def adopt(self, past: Sequence[Mapping[str, Any]], position: int) -> list[str]:
        """Goes on at ``position`` from the segments that a checkpoint names (their JSON; none for a new run).

        Returns:
            What is other than before, in words; a new segment begins where anything is.
        """
        segments = [segment_of(record) for record in past if record["position"] <= position]
        lines: list[str] = []
        if segments and not same(segments[-1], self._now):
            following, lines = go_on(self.task, segments[-1], self._now, position)
            if segments[-1].position == position:  # nothing was drawn from it
                segments.pop()
            segments.append(following)
        self._set(segments or [self._now])
        return lines

    def _order(self, number: int, name: str) -> Order:
        """The order of source ``name`` in segment ``number``.

        Raises:
            InputError: the source is not there any more, or has other shards now.
        """
        if (number, name) not in self._orders:
            part, order = self.segments[number].parts[name], self.segments[number].order
            now = self._now.parts.get(name)
            if now is None or now.digest != part.digest:
                state = "is not there any more" if now is None else "has other shards now"
                end = self.segments[number + 1].position if number + 1 < len(self.segments) else "the end"
                raise InputError(
                    f"source '{name}' {state}; what task '{self.task}' drew from it between positions "
                    f"{self.segments[number].position} and {end} cannot be told from the shards of today"
                )
            again = (part.generation,) if part.generation else ()
            ordering = Ordering(*order[1:]) if self.ordering else None
            seed = derive(order[0], name, "order", *again)
            self._orders[number, name] = Order(self.sources[self._number[name]].counts, seed, ordering)
        return self._orders[number, name]

    def _inner(self, positions: np.ndarray) -> list[tuple[np.ndarray | slice, int, str, np.ndarray]]:
        """(which of ``positions``, segment, source, positions within the source) for each source that is drawn from."""
        found: list[tuple[np.ndarray | slice, int, str, np.ndarray]] = []
        if len(self.segments) == 1 and len(self.segments[0].drawn) == 1:
            segment, name = self.segments[0], self.segments[0].drawn[0]
            return [(slice(None), 0, name, positions + (segment.parts[name].begin - segment.position))]
        segment_of_each = np.searchsorted(self._begins, positions, side="right") - 1
        for number in np.unique(segment_of_each).tolist():
            segment, inside = self.segments[number], np.flatnonzero(segment_of_each == number)
            drawn, inner = self._mixtures[number](positions[inside] - segment.position)
            for source in np.unique(drawn).tolist():
                name, own = segment.drawn[source], drawn == source
                found.append((inside[own], number, name, inner[own] + segment.parts[name].begin))
        return found

    def locate(self, positions: np.ndarray) -> list[Place]:
        """What stands at each of ``positions`` (int64)."""
        return list(map(Place, *self.locate_block(positions).T.tolist()))

    def locate_block(self, positions: np.ndarray) -> np.ndarray:
        """The same as (n, 3) int64: source, epoch and number; cheap for thousands of positions at once."""
        places = np.empty((3, len(positions)), dtype=np.int64)
        for here, segment, name, inner in self._inner(np.asarray(positions, dtype=np.int64)):
            places[1, here], places[2, here] = self._order(segment, name)(inner)
            places[0, here] = self._number[name]
        return places.T

    def spread(self, at_most: int) -> list[int]:
        """Positions of ``at_most`` samples of a stream without an order, evenly spread: shards may be sorted by class.

        All, where there are no more. Of many remote shards only as many are drawn from as it takes, 16 at least.
        """
        if at_most >= len(self):
            return list(range(len(self)))
        if self.remote and len(self.sources) == 1:
            counts, few = self.sources[0].counts, _SPREAD_SHARDS
            while few < len(counts) and counts[_evenly(len(counts), few)].sum() < at_most:
                few *= 2
            if few < len(counts):
                ends, chosen = np.cumsum(counts), _evenly(len(counts), few)
                places = np.concatenate([np.arange(ends[shard] - counts[shard], ends[shard]) for shard in chosen])
                return list(places[_evenly(len(places), at_most)].tolist())
        return list(_evenly(len(self), at_most).tolist())

    def arrange(self, positions: np.ndarray) -> np.ndarray:
        """``positions`` of a global batch in the order in which they are dealt to ranks, the first share to rank 0.

        Sorted by the part of the epoch in which they lie, so that the hosts of a run need different shards.

        Args:
            positions: (batch size,) int64, or (steps, batch size): each global batch by itself.
        """
        part, differ = np.zeros(positions.size), False
        for here, segment, name, inner in self._inner(positions.reshape(-1)):
            order = self._order(segment, name)
            if order.windowed:
                part[here], differ = order.part(inner), True
        if not differ:
            return positions
        return np.take_along_axis(positions, np.argsort(part.reshape(positions.shape), axis=-1, kind="stable"), -1)

    def needed(self, positions: np.ndarray) -> list[str]:
        """The remote shards to have at hand for ``positions`` and what comes soon after, most urgent first."""
        found: list[str] = []
        for _, segment, name, inner in self._inner(np.asarray(positions, dtype=np.int64)):
            shards = self._order(segment, name).needed(inner)
            source = self.sources[self._number[name]]
            urls = [source.urls[shard] for shard in shards]
            found += [url for url in urls if self.store.remote(url)]
        return found

    def progress(self, position: int) -> dict[str, tuple[int, float]]:
        """Source -> (samples drawn from it before ``position``, epochs of its present shards)."""
        number = max(0, int(np.searchsorted(self._begins, position, side="right")) - 1)
        segment, mixture, found = self.segments[number], self._mixtures[number], {}
        for name, count in zip(segment.drawn, mixture.counts(position - segment.position), strict=True):
            part, size = segment.parts[name], self._order(number, name).size
            found[name] = (part.seen + count, (part.begin + count) / size)
        return found

    def replacement(self, place: Place, position: int, attempt: int) -> Place:
        """What takes the place of an unusable sample: another one of its source, a pure function of the position."""
        others = max(1, len(self.sources[place.source]) - 1)
        ahead = 1 + derive(self.seed, self.task, "replacement", position, attempt) % others
        return place._replace(number=(place.number + ahead) % len(self.sources[place.source]))

    def close(self) -> None:
        """Closes the shards that are open; reading opens them again."""
        for source in self.sources:
            source.close()

    def read(self, place: Place) -> Sample:
        """The sample at ``place``."""
        return self.sources[place.source].read(place.number)

    def identity(self, place: Place) -> tuple[str, str]:
        """(shard base name, key) of the sample at ``place``."""
        return self.sources[place.source].identity(place.number)

    def randomness(self, position: int) -> np.random.Generator:
        """The generator of the sample at ``position``: its crop, its augmentation, its masks."""
        return generator(self.seed, self.task, position)

    def fingerprint(self) -> dict[str, str]:
        """Source name -> digest of its shard list."""
        return {name: part.digest for name, part in self._now.parts.items()}


def _evenly(total: int, count: int) -> np.ndarray:
    """``count`` of the numbers below ``total``, evenly spread; count <= total."""
    return np.arange(count) * total // count
