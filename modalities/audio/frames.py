"""From samples to frames: the geometry of a stack of strided convolutions, known to front end and prepare alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from data.errors import InputError

# Of wav2vec 2.0 (Baevski et al. 2020, section 4.2): a frame each 20 ms that sees 25 ms, at 16 kHz.
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)


def geometry(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """(samples between two frames, samples that a frame sees).

    Raises:
        InputError: not one stride a kernel, or a stride that skips samples.
    """
    if len(kernels) != len(strides) or any(k < s for k, s in zip(kernels, strides, strict=False)):
        raise InputError(f"kernels={list(kernels)} need strides as many and none greater, got {list(strides)}")
    return math.prod(strides), 1 + sum((k - 1) * math.prod(strides[:i]) for i, k in enumerate(kernels))


def frame_count(samples: int, hop: int, receptive_field: int) -> int:
    """Number of frames that lie inside a clip of ``samples``, given its :func:`geometry`."""
    return (samples - receptive_field) // hop + 1
