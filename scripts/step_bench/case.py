"""What one modality compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from step_bench.side import Side

TOLERANCE = 1e-4


class Setup(NamedTuple):
    """How all cases are set up.

    Attributes:
        size: ``tiny`` (does it run), ``small`` (what a CPU is measured with) or ``base`` (the published models).
        steps: updates a round.
        device, dtype: where and in which type it is computed; a 16-bit type is that of autocast.
        compiled: whether both sides are compiled.
        seed: of samples and weights.
    """

    size: str
    steps: int
    device: torch.device
    dtype: torch.dtype
    compiled: bool
    seed: int


class Check(NamedTuple):
    """The loss of two sides for the same weights and the same batch."""

    ours: str
    theirs: str
    mine: float
    expected: float

    @property
    def same(self) -> bool:
        """Whether they are alike to 1e-4 of their size."""
        return abs(self.mine - self.expected) <= TOLERANCE * abs(self.expected)


class Ratio(NamedTuple):
    """Units a CPU second of one side over those of the fastest of some peers, and what it must be."""

    ours: str
    peers: tuple[str, ...]
    bar: float


@dataclass
class Case:
    """The sides of one modality.

    Attributes:
        name, unit: of the case, and what is counted.
        sides: name -> side.
        checks: makes the checks, before anything is timed.
        ratios: what must hold.
        shares: sides whose transformers must reach 60 % of the matrix product's rate.
    """

    name: str
    unit: str
    sides: Mapping[str, Side]
    checks: Callable[[], Iterable[Check]]
    ratios: list[Ratio]
    shares: tuple[str, ...] = ()
