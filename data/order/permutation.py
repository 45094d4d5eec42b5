"""Keyed bijections on [0, n): computed, not stored, so that any place of any permutation costs the same."""

from __future__ import annotations

import numpy as np

from data.seeds import derive

_ROUNDS = 6
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)


def scramble(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: uint64 -> uint64, each output bit depends on each input bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))


def combine(key: np.ndarray, part: np.ndarray) -> np.ndarray:
    """A uint64 key that depends on a key and a number, for each element."""
    return scramble((key ^ scramble(part.astype(np.uint64) + _STEP)) + _STEP)


def permute(index: np.ndarray, n: int, key: int) -> np.ndarray:
    """Where a permutation of [0, n), picked by ``key``, sends each ``index``; int64, any shape.

    A balanced Feistel network over the next even number of bits; results outside [0, n) are sent through again until
    they fall inside (cycle walking), at most four times as many values as needed.
    """
    if n <= 1:
        return np.zeros_like(index)
    bits = max(1, ((n - 1).bit_length() + 1) // 2)
    half, low = np.asarray(bits, np.uint64), np.asarray((1 << bits) - 1, np.uint64)
    keys = [np.asarray(derive(key, round_), np.uint64) for round_ in range(_ROUNDS)]
    values = _feistel(np.asarray(index).astype(np.uint64), half, low, keys)
    outside = values >= np.uint64(n)
    while outside.any():
        values[outside] = _feistel(values[outside], half, low, keys)
        outside = values >= np.uint64(n)
    return values.astype(np.int64)


def permute_each(index: np.ndarray, n: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The same with a permutation of its own for each element: [0, n_i) by the uint64 ``key_i``; all of shape (m,)."""
    index, n, key = np.asarray(index).astype(np.uint64), np.asarray(n).astype(np.uint64), np.asarray(key, np.uint64)
    bits = np.frexp((n - np.uint64(1)).astype(np.float64))[1]  # exact: no source has 2**53 samples
    half = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    low = (np.uint64(1) << half) - np.uint64(1)
    with np.errstate(over="ignore"):
        keys = [scramble(key + np.uint64(round_ + 1) * _STEP) for round_ in range(_ROUNDS)]
    values = _feistel(index, half, low, keys)
    outside = np.flatnonzero(values >= n)
    while len(outside):
        values[outside] = _feistel(values[outside], half[outside], low[outside], [k[outside] for k in keys])
        outside = outside[values[outside] >= n[outside]]
    return values.astype(np.int64)


def _feistel(x: np.ndarray, half: np.ndarray, low: np.ndarray, keys: list[np.ndarray]) -> np.ndarray:
    left, right = x >> half, x & low
    for key in keys:
        left, right = right, left ^ (scramble(right ^ key) & low)
    return (left << half) | right
