"""What behavioural tests compare. N samples, D features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def units(rows: np.ndarray) -> np.ndarray:
    """(N, D) -> unit rows in float64; a row of zeros stays."""
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, D) twice -> (N,): row by row."""
    return (units(a) * units(b)).sum(1)


def ranks(changed: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """(N, D) twice -> (N,) int64: as how near each changed row finds its own original among all, from 1.

    A tie counts as being behind, so that a collapsed encoder finds nothing. The same sample twice in a source is no
    rival of itself: rows that equal one's own original are left out, unless all are alike.
    """
    similar = units(changed) @ units(originals).T
    _, kinds = np.unique(originals, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)  # numpy 2.0 gives it another shape
    rivals = kinds[None, :] != kinds[: len(changed), None]
    if not rivals.any():
        rivals[:] = True
    np.fill_diagonal(rivals, True)
    return (rivals & ~(similar < similar.diagonal()[:, None])).sum(1)  # NaN is no success either


def nearest_class(rows: np.ndarray, originals: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """(N, D) -> (N,) int64: the class whose centre, the mean of its unit rows of ``originals``, is most like each."""
    names, numbers = np.unique(np.array(labels), return_inverse=True)
    known = units(originals)
    centres = np.stack([known[numbers == number].mean(0) for number in range(len(names))])
    return (units(rows) @ units(centres).T).argmax(1)


def nearer(own: np.ndarray, others: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each row is more like its own other half than like another's.

    Args:
        own: (N, D).
        others: (N, D), the other halves.
        starts: (N,) int64, where the search for another's begins; it ends at the first that is not the same.

    Returns:
        (N,) cosine to one's own, (N,) to another's, (N,) int64 whose it is, -1 where all are the same.
    """
    similar = units(own) @ units(others).T
    count, places = len(own), np.full(len(own), -1)
    for row, start in enumerate(starts.tolist()):
        for step in range(count):
            place = (start + step) % count
            if place != row and not np.array_equal(others[place], others[row]):
                places[row] = place
                break
    return similar.diagonal(), similar[np.arange(count), np.maximum(places, 0)], places
