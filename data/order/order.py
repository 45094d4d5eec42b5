"""Which sample stands at which position: a function of the seed, the sizes and the position, of nothing else.

An epoch is a permutation of the samples. It is computed, not stored: resuming is a matter of asking for another
position, which costs the same at any place of any epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import InputError
from data.order.permutation import combine, permute, permute_each
from data.order.shardorder import ShardOrder
from data.seeds import derive


@dataclass(frozen=True)
class Ordering:
    """How the samples of a source are shuffled.

    Attributes:
        window: shards that are shuffled together; a source of no more shards than that is shuffled as a whole.
        streams: parts, a power of two, that an epoch is cut into and read from at the same time. Hosts that take
            different parts need different shards.

    Raises:
        InputError: a number is out of range.
    """

    window: int = 256
    streams: int = 64

    def __post_init__(self) -> None:
        if self.window < 1:
            raise InputError(f"order.window={self.window} is not 1 shard or more")
        if self.streams < 1 or self.streams & (self.streams - 1):
            raise InputError(f"order.streams={self.streams} is not a power of two: 1, 2, 4, 8, ...")


DEFAULT = Ordering()


class Order:
    """The endless stream over the samples of some shards: every sample once an epoch, epochs without a seam.

    Up to ``window`` shards, an epoch is a permutation of all samples. Above, it permutes the shards, cuts the
    sequence of their samples into ``streams`` equal parts and each part into windows, and permutes the samples within
    each window; position p belongs to part ``reversed bits of (p mod streams)``. So at any time ``window`` shards are
    mixed, each of them is needed for one stretch of the epoch only, and any run of positions takes equally from the
    first and the last half of the parts, from each quarter, and so on: from what any 2, 4, ... hosts hold.

    Args:
        counts: (S,) samples of each shard.
        seed: of the run, the task and the source; another seed is another order.
        ordering: how they are shuffled; None gives the samples as they lie in the shards.
    """

    def __init__(self, counts: np.ndarray | list[int], seed: int, ordering: Ordering | None = DEFAULT) -> None:
        counts = np.asarray(counts, dtype=np.int64)
        self.size = int(counts.sum())
        if self.size < 1:
            raise ValueError("an order needs at least one sample")
        self.seed, self.shards, self.shuffle = seed, len(counts), ordering is not None
        self.windowed = False
        self._ends = np.cumsum(counts)
        if ordering is None or self.shards <= ordering.window:
            return
        self.windowed = True
        self._order = ShardOrder(counts, seed)
        streams = 1
        while streams * 2 <= min(ordering.streams, ordering.window):
            streams *= 2
        self._windows = -(-self.shards // ordering.window)
        numbers = np.arange(streams)
        bits = streams.bit_length() - 1
        self._stream = np.zeros(streams, dtype=np.int64)  # position mod streams -> part
        for bit in range(bits):
            self._stream |= ((numbers >> bit) & 1) << (bits - 1 - bit)
        length = np.empty(streams, dtype=np.int64)
        length[self._stream] = (self.size - numbers + streams - 1) // streams
        self._length, self._begin = length, np.cumsum(length) - length
        # Parts enter their next windows one after the other: all at once, hosts would need two windows at a time.
        self._ahead = length * numbers // streams

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, sample number) at each of ``positions``, int64."""
        epochs, places = np.divmod(np.asarray(positions, dtype=np.int64), self.size)
        if not self.shuffle:
            return epochs, places
        if len(epochs) and epochs.min() == epochs.max():
            return epochs, self._within(int(epochs[0]), places)
        samples = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            samples[here] = self._within(int(epoch), places[here])
        return epochs, samples

    def _within(self, epoch: int, places: np.ndarray) -> np.ndarray:
        if not self.windowed:
            return permute(places, self.size, derive(self.seed, "epoch", epoch))
        part, window, begin, end, inside = self._window(places)
        key = np.full(len(places), derive(self.seed, "epoch", epoch), np.uint64)
        shuffled = permute_each(inside, end - begin, combine(combine(key, part), window))
        return self._order.locate(epoch, begin + shuffled)[1]

    def _window(self, places: np.ndarray) -> tuple[np.ndarray, ...]:
        """(part, window, its begin and end in the epoch's sequence, place in it) of each place of an epoch."""
        streams = len(self._length)
        part = self._stream[places % streams]
        inner = places // streams
        window = ((inner + 1) * self._windows + self._ahead[part] - 1) // self._length[part]
        begin, end = self._edge(part, window), self._edge(part, window + 1)
        return part, window, self._begin[part] + begin, self._begin[part] + end, inner - begin

    def _edge(self, part: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Where in its part a window begins."""
        length = self._length[part]
        return np.clip((window * length - self._ahead[part]) // self._windows, 0, length)

    def part(self, positions: np.ndarray) -> np.ndarray:
        """In which part of the epoch each of ``positions`` lies, as a share in [0, 1), float64."""
        if not self.windowed:
            return np.zeros(len(positions))
        streams = len(self._length)
        return self._stream[(positions % self.size) % streams] / streams

    def needed(self, positions: np.ndarray) -> list[int]:
        """The shards to have at hand for ``positions`` and what follows them: their windows, then the next ones."""
        if not self.shuffle:  # one after the other: those that were read are not wanted again
            return list(range(int(np.searchsorted(self._ends, int(positions.min()) % self.size, "right")), self.shards))
        if not self.windowed:
            return list(range(self.shards))
        found: dict[int, None] = {}
        epochs, places = np.divmod(np.asarray(positions, dtype=np.int64), self.size)
        epoch = int(epochs.max())
        part, window, *_ = self._window(places[epochs == epoch])
        here = sorted(set(zip(part.tolist(), window.tolist(), strict=True)))
        for p, w in here + [(p, w + 1) for p, w in dict(here).items()]:
            at, number = epoch, w
            if int(self._edge(np.array(p), np.array(w))) >= int(self._length[p]):
                at, number = epoch + 1, 0
            begin, end = (int(self._begin[p] + self._edge(np.array(p), np.array(n))) for n in (number, number + 1))
            found.update(dict.fromkeys(self._order.between(at, begin, end)))
        return list(found)
