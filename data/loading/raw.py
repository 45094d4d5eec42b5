"""Samples as they lie in the shards: the undecoded members of a micro-batch, in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import torch

from data.errors import InputError
from data.loading.block import Block
from data.sample import Sample


class RawPrepare:
    """Hands on the members named by ``fields`` without looking into them.

    For those who decode elsewhere (on the device, in another program) or measure the loader itself.

    Args:
        fields: extensions, each of which every sample must have.
        views: hand on each member as an array of its own, which looks at the mapped shard where that lies in memory,
            without a copy: for large members. Such arrays cannot be written to, and hold what the file holds when they
            are read. **A shard that is cut while they are looked at ends the process by SIGBUS**, as with any mapped
            file; one that is replaced under its name (what ``mv``, ``rsync`` and ``shards pack`` do) does no harm.
            What does not lie in memory, or in a cache from which it may have to go, is copied as without ``views``.
    """

    def __init__(self, fields: Sequence[str], views: bool = False) -> None:
        if not fields or isinstance(fields, str):
            raise InputError(f"fields={fields!r} is not a list of member extensions")
        if len(set(fields)) < len(fields):
            raise InputError(f"fields={fields!r} names a member twice")
        self.fields, self.views = tuple(fields), views

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Every field."""
        return {field: (field,) for field in self.fields}

    @property
    def block_fields(self) -> tuple[str, ...]:
        """Contents are taken as they are."""
        return self.fields

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> list[bytes]:
        """The F members.

        Raises:
            SampleError: one is not there.
        """
        return sample.contents(self.fields)

    def collate(self, items: list[list[bytes]]) -> dict[str, Any]:
        """``{"bytes": (total,) uint8, "edges": (B, F, 2) int64, "size": B}``.

        Field f of sample b is ``bytes[edges[b, f, 0] : edges[b, f, 1]]``; what lies between is not said. With
        ``views``: ``{"members": B lists of F uint8 NumPy arrays, "size": B}``.
        """
        if self.views:
            return self.from_views([[np.frombuffer(member, dtype=np.uint8) for member in item] for item in items])
        parts = list(chain.from_iterable(items))
        edges = np.array(list(pairwise(accumulate(map(len, parts), initial=0))), dtype=np.int64)
        buffer = np.frombuffer(bytearray().join(parts), dtype=np.uint8)
        return self.from_block(Block(buffer, edges.reshape(len(items), -1, 2)))

    def from_block(self, block: Block) -> dict[str, Any]:
        """The same of a block."""
        buffer, edges = block
        if self.views:
            return self.from_views([[buffer[a:b] for a, b in sample] for sample in edges.tolist()])
        return {"bytes": torch.from_numpy(buffer), "edges": torch.from_numpy(edges), "size": len(edges)}

    def from_views(self, members: list[list[np.ndarray]]) -> dict[str, Any]:
        """The same of members that are arrays already."""
        return {"members": members, "size": len(members)}
