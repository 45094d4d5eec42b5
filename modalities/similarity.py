"""The N x N similarities of a batch, a block of rows at a time where all of them are many.

A batch of 32,768 pairs has a billion of them, 4.3 GB in float32, of which a loss and its gradient keep several copies.
In blocks each is computed again in the backward pass, and what is kept grows with N alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

AT_ONCE = 2**26
"""Similarities that are computed at once: 256 MB in float32."""

Parts: TypeAlias = tuple[Tensor, ...]


def by_rows(part: Callable[..., Parts], rows: Tensor, others: Tensor, *given: Tensor) -> Parts:
    """What ``part`` makes of each block of rows, each of its results stacked over the K blocks.

    Args:
        part: (some of ``rows``, number of the first, ``others``, *given) -> tensors of one shape for every block; in
            the precision of the rows, also under autocast.
        rows: (M, E).
        others: (N, E), what they are compared with.
        given: further tensors.

    Returns:
        (K, ...) each.
    """
    size = max(1, AT_ONCE // len(others))
    found = []
    for begin in range(0, len(rows), size):
        with torch.autocast(rows.device.type, enabled=False):
            block = rows[begin : begin + size]
            if size >= len(rows):
                found.append(part(block, begin, others, *given))
            else:
                found.append(
                    checkpoint(part, block, begin, others, *given, use_reentrant=False, preserve_rng_state=False)
                )
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


def own(similarity: Tensor, begin: int) -> Tensor:
    """(n,) of a block (n, N) whose first row is number ``begin``: the similarity of each row with its own partner."""
    return similarity.diagonal(begin)


def best(similarity: Tensor, begin: int) -> Parts:
    """Of a block: how many rows are most similar to their own partner; for :func:`hits`, the best row of each column.

    Returns:
        (), (N,) the highest similarity of each column, and (N,) the number of the row that has it.
    """
    with torch.no_grad():
        right = torch.arange(begin, begin + len(similarity), device=similarity.device)
        value, row = similarity.max(0)
        return (similarity.argmax(1) == right).sum(), value, row + begin


def hits(rows: Tensor, values: Tensor, numbers: Tensor) -> Tensor:
    """How often the right pair had the highest similarity, both ways, halved, from :func:`best` of all blocks; ()."""
    row = numbers.gather(0, values.argmax(0, keepdim=True))[0]
    right = torch.arange(len(row), device=row.device)
    # Of a type of its own: halves of whole numbers are in torch's default one, which bf16-true makes bfloat16.
    return ((rows.sum() + (row == right).sum()).float() / 2).detach()
