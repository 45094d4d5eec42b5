"""How embeddings fill their space. N rows, D features."""

from __future__ import annotations

import numpy as np

from pretrain.vectors import unit

_ROWS = 1024


def effective_rank(rows: np.ndarray) -> float:
    """RankMe (Garrido et al. 2023, eq. 1): e to the entropy of the singular values, from 1 to min(N, D).

    Of the rows as they are, neither centred nor normalised.
    """
    values = np.linalg.svd(np.asarray(rows, np.float64), compute_uv=False)
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared distance of pairs on the sphere (Wang & Isola 2020, section 4.1.1): 0 to 4, the smaller the better.

    Args:
        a: (N, D) one half of each pair.
        b: (N, D) the other.
    """
    return float(np.square(unit(a) - unit(b)).sum(1).mean())


def uniformity(rows: np.ndarray, t: float = 2.0) -> float:
    """The logarithm of E exp(-t |x - y|^2) over all pairs on the sphere (Wang & Isola 2020, section 4.1.2).

    0 where all rows are alike, towards -2t (for many features) where they are spread evenly.
    """
    x = unit(rows)
    total = 0.0
    for begin in range(0, len(x), _ROWS):
        total += float(np.exp(-t * (2 - 2 * np.clip(x[begin : begin + _ROWS] @ x.T, -1, 1))).sum())
    pairs = len(x) * (len(x) - 1)
    return float(np.log(max((total - len(x)) / pairs, np.finfo(float).tiny))) if pairs else 0.0
