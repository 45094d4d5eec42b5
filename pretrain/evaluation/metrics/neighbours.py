"""Classification by the nearest neighbours. N training rows, M test rows, D features, C classes."""

from __future__ import annotations

import numpy as np

from pretrain.vectors import unit

_ROWS = 1024


def neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int = 20, temperature: float = 0.07
) -> np.ndarray:
    """(M,) numbers of classes: the k most similar training rows vote, each by exp(similarity / temperature).

    Wu et al. 2018, section 3.4, with cosine similarity; k = 20 as in DINO (Caron et al. 2021, section 4.1).

    Args:
        train: (N, D).
        labels: (N,) numbers of classes from 0 on.
        test: (M, D).
        k: how many vote; all where there are fewer.
        temperature: the smaller, the more the nearest decide.
    """
    known, count = unit(train), int(labels.max()) + 1
    k = min(k, len(train))
    found = []
    for begin in range(0, len(test), _ROWS):
        similarity = unit(test[begin : begin + _ROWS]) @ known.T
        near = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        weights = np.exp((np.take_along_axis(similarity, near, 1) - 1) / temperature)
        votes = np.zeros((len(near), count))
        np.add.at(votes, (np.arange(len(near))[:, None], labels[near]), weights)
        found.append(votes.argmax(1))
    return np.concatenate(found) if found else np.empty(0, np.int64)
