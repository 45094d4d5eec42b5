"""The most similar rows, exactly. Q queries, N rows, D features."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pretrain.vectors import unit

_STEPS = 2**24


def cosine(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(Q, D) and (N, D) -> (Q, N) float32.

    Computed in float64 and rounded once, to multiples of 2^-24: how a product is cut into blocks does not show, and
    equal rows tie. Those of float32 alone are finer near 0, where a right angle is 1e-17 or -2e-17 by the cut.
    """
    found: np.ndarray = (np.rint(unit(queries) @ unit(rows).T * _STEPS) / _STEPS + 0.0).astype(np.float32)  # no -0
    return found


def nearest(queries: np.ndarray, blocks: Iterable[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of the highest cosine similarity for each query, compared with every row.

    Args:
        queries: (Q, D).
        blocks: (n, D) each, one after the other; only one is in memory at a time.
        k: how many, or all rows where there are fewer.

    Returns:
        (Q, k) float32 similarities, falling, and (Q, k) int64 numbers of rows; of equal ones the first comes first.
    """
    scores = np.empty((len(queries), 0), np.float32)
    numbers = np.empty((len(queries), 0), np.int64)
    seen = 0
    for block in blocks:
        own = np.broadcast_to(np.arange(seen, seen + len(block)), (len(queries), len(block)))
        scores = np.concatenate((scores, cosine(queries, block)), 1)
        numbers = np.concatenate((numbers, own), 1)
        # Stable, and kept rows come before those of later blocks: among equals the lower number stays in front.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, numbers = np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)
        seen += len(block)
    return scores, numbers
