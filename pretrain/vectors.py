"""What search and metrics share about embeddings as arrays."""

from __future__ import annotations

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    """(..., D) -> float64 rows of length 1; a row of zeros stays one."""
    wide = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    found: np.ndarray = wide / np.where(lengths > 0, lengths, 1.0)
    return found
