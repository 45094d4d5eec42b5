"""Recall among candidates. N queries, M candidates, D features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import comb

import numpy as np

from pretrain.vectors import unit

_ROWS = 1024  # of the matrix of similarities that are in memory at once


def ahead(similarity: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N, M) similarities and which candidates are right -> (N,) wrong ones that come before the best right one.

    A wrong candidate that is as similar comes before it, and so does all if there is a NaN: where an encoder has
    collapsed and all pairs look alike, nothing is found.
    """
    best = np.where(right, similarity, -np.inf).max(1, keepdims=True)
    found: np.ndarray = (~(similarity < best) & ~right).sum(1)
    return found


def recall(
    a: np.ndarray, b: np.ndarray, groups: Sequence[str] | None = None, ks: Iterable[int] = (1, 5, 10)
) -> dict[int, tuple[float, float]]:
    """How often a right candidate is among the first k by cosine similarity, and what guessing would find.

    Row i of ``a`` and row i of ``b`` belong together (open_clip's retrieval metrics); with ``groups`` all rows of one
    group do, as where a picture has several captions or pairs were made by class.

    Args:
        a: (N, D) queries.
        b: (N, D) candidates.
        groups: N names; None: each row is alone.
        ks: how many guesses count.

    Returns:
        k -> (recall@k, chance).
    """
    ks = sorted(set(ks))
    names = np.unique(np.asarray(groups), return_inverse=True)[1] if groups is not None else np.arange(len(a))
    queries, candidates = unit(a), unit(b)
    found = []
    for begin in range(0, len(a), _ROWS):
        rows = slice(begin, begin + _ROWS)
        found.append(ahead(queries[rows] @ candidates.T, names[rows, None] == names[None]))
    before = np.concatenate(found)
    return {k: (float((before < k).mean()), chance(names, k)) for k in ks}


def chance(names: np.ndarray, k: int) -> float:
    """Probability that one of k candidates drawn without looking is right, averaged over the queries."""
    total = len(names)
    if k >= total:
        return 1.0
    sizes = Counter(np.bincount(names).tolist())
    found = sum(count * size * (1 - comb(total - size, k) / comb(total, k)) for size, count in sizes.items())
    return float(found) / total
