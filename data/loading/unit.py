"""A prepared micro-batch, and what a task's data is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from data.errors import InputError, RunError
from data.loading.block import Block
from data.loading.located import Located
from data.sample import Sample
from data.stream import Stream


class Prepares(Protocol):
    """What the loader asks of a task's prepare; the full protocol is ``modalities.prepare.Prepare``.

    If it has a method ``foresee(sample)``, samples that are read together are shown to it before the first is made.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Any:
        """Tensors of one sample. ``rng`` is the sample's own only until the call returns."""

    def collate(self, items: list[Any]) -> dict[str, Any]:
        """One batch."""


class PreparesBlocks(Protocol):
    """What a prepare has beside that, if it takes the contents of a batch as they are, all at once.

    Then no sample is made, no key is read and no generator is set up, but for samples that must be replaced.

    Attributes:
        block_fields: extensions, which every sample must have; each once.
        views: whether contents that lie in memory are to be looked at there instead of being copied.
    """

    block_fields: tuple[str, ...]
    views: bool

    def from_block(self, block: Block) -> dict[str, Any]:
        """The batch that ``collate`` would make; must not fail on account of one sample's content."""

    def from_views(self, members: list[list[np.ndarray]]) -> dict[str, Any]:
        """The same of each sample's fields, read-only uint8 arrays; called in the trainer."""


@dataclass(frozen=True)
class TaskData:
    """Where the samples of a task come from.

    Attributes:
        stream: position -> sample.
        prepare: sample -> tensors.
        batch_size: samples of one step on all ranks together (the global batch).
        micro_batch_size: most samples a rank computes at once; None for its whole share.
        position: samples consumed before the loader's first step.
    """

    stream: Stream
    prepare: Prepares
    batch_size: int
    micro_batch_size: int | None = None
    position: int = 0


class Rejected(NamedTuple):
    """A sample that could not be used, and why; ``kind`` is one of :data:`data.errors.KINDS`."""

    task: str
    position: int
    shard: str
    key: str
    member: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"'{self.key}' in '{self.shard}': {self.reason}"


@dataclass
class Unit:
    """One prepared micro-batch.

    Attributes:
        step, task: what it belongs to.
        batch: as collated.
        places: (n, 2) int64, source and number of each sample that was read.
        rejected: samples that were replaced.
        failure: why the run must end; there is no batch then.
        located: where the batch lies that the trainer makes of it; there is none yet then.
    """

    step: int
    task: str
    batch: dict[str, Any]
    places: np.ndarray
    rejected: list[Rejected] = field(default_factory=list)
    failure: InputError | RunError | None = None
    located: Located | None = None

    def __reduce__(self) -> tuple[type[Unit], tuple[Any, ...]]:
        # By position, without a dictionary of names: every micro-batch comes from another process.
        return Unit, (self.step, self.task, self.batch, self.places, self.rejected, self.failure, self.located)
