"""Every random number comes from a named seed, so that none is saved: invariant 2 of docs/architecture.md."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on all of ``parts`` and on nothing else, on any machine."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A generator of its own for what ``parts`` name: a sample at a position, an epoch of a source."""
    return np.random.Generator(np.random.Philox(key=derive(*parts)))
