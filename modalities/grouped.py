"""Sequences of one length brought together, so that attention takes them as one batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modalities.layout import Layout


def by_length(layout: Layout) -> tuple[Layout, Tensor, Tensor] | None:
    """The same sequences from short to long; None where that would not save a quarter of the calls of a kernel.

    Short texts (captions) share a few lengths; then a call for each of them costs a tenth of a block on CPU.

    Returns:
        The new layout, the row that stands at each of its places (T,), and the place of each row (T,).
    """
    lengths = np.array(layout.lengths)
    runs = 1 + np.count_nonzero(np.diff(lengths))
    if runs - len(np.unique(lengths)) < len(lengths) / 4:
        return None
    order = np.argsort(lengths, kind="stable")
    arranged = Layout(lengths[order].tolist(), layout.device)
    firsts = (np.cumsum(lengths) - lengths)[order]
    rows = np.repeat(firsts, arranged.lengths) + arranged.position.numpy()
    places = np.empty_like(rows)
    places[rows] = np.arange(len(rows))
    return arranged, torch.from_numpy(rows), torch.from_numpy(places)
