"""Samples as they lie in the shards: the undecoded members of a micro-batch, in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch

from data.errors import InputError, SampleError
from data.sample import Sample


class RawPrepare:
    """Hands on the members named by ``fields`` without looking into them.

    For those who decode elsewhere (on the device, in another program) or measure the loader itself.

    Args:
        fields: extensions, each of which every sample must have.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        if not fields or isinstance(fields, str):
            raise InputError(f"fields={fields!r} is not a list of member extensions")
        self.fields = tuple(fields)

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Every field."""
        return {field: (field,) for field in self.fields}

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> list[bytes]:
        """The F members.

        Raises:
            SampleError: one is not there.
        """
        members = sample.members
        try:
            return [members[field] for field in self.fields]
        except KeyError as error:
            field = error.args[0]
            raise SampleError(f"no member {field}; it has: {', '.join(sorted(members))}", "missing", field) from None

    def collate(self, items: list[list[bytes]]) -> dict[str, Any]:
        """``{"bytes": (total,) uint8, "edges": (B * F + 1,) int64, "size": B}``.

        Field f of sample b is ``bytes[edges[b * F + f] : edges[b * F + f + 1]]``.
        """
        parts = list(chain.from_iterable(items))
        edges = torch.tensor([0, *accumulate(map(len, parts))], dtype=torch.int64)
        content = bytearray().join(parts)
        found = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        return {"bytes": found, "edges": edges, "size": len(items)}
