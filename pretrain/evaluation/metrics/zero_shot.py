"""Classification by texts that name the classes (CLIP, Radford et al. 2021, section 3.1). N samples, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.vectors import unit


def classifier(texts: Sequence[np.ndarray]) -> np.ndarray:
    """For each class (T, D) embeddings of what its templates say -> (C, D) unit rows.

    The mean of unit vectors, made a unit vector again, as CLIP and open_clip ensemble prompts (section 3.1.4).
    """
    return unit(np.stack([unit(own).mean(0) for own in texts]))


def accuracy(samples: np.ndarray, classes: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """How often the right class is among the k most similar ones.

    A wrong class that is just as similar counts as more similar.

    Args:
        samples: (N, D).
        classes: (C, D), as :func:`classifier` makes them.
        labels: (N,) numbers of classes.
        k: how many guesses count.
    """
    return float((_ahead(samples, classes, labels) < k).mean())


def balanced(samples: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> float:
    """The mean over classes of their own accuracy: small classes count as much as large ones."""
    right = _ahead(samples, classes, labels) < 1
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _ahead(samples: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    similarity = unit(samples) @ unit(classes).T
    own = np.take_along_axis(similarity, labels[:, None], 1)
    return (~(similarity < own)).sum(1) - 1
