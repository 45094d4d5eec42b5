"""Which sample stands at which position: a function of the seed, the sizes and the position, of nothing else.

An epoch is a permutation of the samples. It is computed, not stored: a keyed bijection on [0, N) that costs the same at
any place of any epoch, so that resuming is a matter of asking for another position.
"""

from __future__ import annotations

import numpy as np

from data.seeds import derive

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _scramble(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: uint64 -> uint64, each output bit depends on each input bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))


def permute(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """Where a permutation of [0, n), picked by ``key``, sends each ``index``; int64, any shape.

    A balanced Feistel network over the next even number of bits; results outside [0, n) are sent through again until
    they fall inside (cycle walking), at most four times as many values as needed.
    """
    if n <= 1:
        return np.zeros_like(index)
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(derive(key, round_)) for round_ in range(_ROUNDS)]

    def once(x: np.ndarray) -> np.ndarray:
        left, right = x >> half, x & low
        for round_key in keys:
            left, right = right, left ^ (_scramble(right ^ round_key) & low)
        return (left << half) | right

    values = once(np.asarray(index).astype(np.uint64))
    outside = values >= np.uint64(n)
    while outside.any():
        values[outside] = once(values[outside])
        outside = values >= np.uint64(n)
    return values.astype(np.int64)


class Order:
    """The endless stream over N samples: every sample once an epoch, epochs one after the other without a seam.

    Args:
        size: N.
        seed: of the run, the task and the source; another seed is another order.
        shuffle: False gives the samples as they lie in the shards.
    """

    def __init__(self, size: int, seed: int, shuffle: bool = True) -> None:
        if size < 1:
            raise ValueError("an order needs at least one sample")
        self.size = size
        self.seed = seed
        self.shuffle = shuffle

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, sample number) at each of ``positions``, int64."""
        epochs, places = np.divmod(np.asarray(positions, dtype=np.int64), self.size)
        if not self.shuffle:
            return epochs, places
        samples = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            samples[here] = permute(places[here], self.size, derive(self.seed, "epoch", int(epoch)))
        return epochs, samples
