"""Embeddings in two dimensions. N rows, D features."""

from __future__ import annotations

import numpy as np

from pretrain.vectors import unit


def plane(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Directions of the embeddings along their two principal axes, and the share of the variance that these hold.

    Args:
        rows: (N, D); what is no number counts as 0.

    Returns:
        (N, 2), each axis with its largest place on the positive side, so that equal rows give equal places; and the
        share, 0 where all rows are alike.
    """
    vectors = unit(np.nan_to_num(rows, posinf=0.0, neginf=0.0))
    vectors -= vectors.mean(0)
    left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    places = np.zeros((len(rows), 2))
    known = min(2, len(sizes))
    places[:, :known] = left[:, :known] * sizes[:known]
    largest = np.abs(places).argmax(0)
    signs = np.where(places[largest, [0, 1]] < 0, -1.0, 1.0)
    whole = float((sizes**2).sum())
    return places * signs, float((sizes[:2] ** 2).sum()) / whole if whole > 1e-12 else 0.0


def nearest(queries: np.ndarray, candidates: np.ndarray, k: int, others: np.ndarray | None = None) -> np.ndarray:
    """(Q, D) and (N, D) -> (Q, k) numbers of the candidates of largest cosine similarity, the best first.

    Args:
        queries: rows; what is no number counts as 0.
        candidates: likewise.
        k: how many; fewer where there are not so many candidates.
        others: (Q,) the candidate that is the query itself and no answer; None: all may be.
    """
    similarity = unit(np.nan_to_num(queries)) @ unit(np.nan_to_num(candidates)).T
    count = len(candidates)
    if others is not None:
        similarity[np.arange(len(queries)), others] = -np.inf
        count -= 1
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, count)]
