"""What a run offers its evaluators: data, limits, and how inputs are prepared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from data.store.store import Store
from modalities.prepare import Prepare
from pretrain.evaluation.samples import WAITS, Waits


class Inputs(Protocol):
    """Makes what prepares the inputs of an encoder."""

    def __call__(
        self, encoder: str, beside: Collection[str], joint: bool, changed: Mapping[str, Any] | None = None
    ) -> Prepare:
        """See :func:`pretrain.inputs.plain_node`."""


@dataclass
class Setting:
    """Of a run; the same for all of its evaluators.

    Attributes:
        inputs: what prepares the inputs of an encoder, without masks; see :class:`Inputs`.
        store: where shards are read from.
        samples: of a held-out source, at most, where an evaluator says nothing else.
        batch_size: samples that go through an encoder at once.
        waits: seconds that a batch may take until a warning says why, and until the run ends.
        max_share: of the samples that may lack a member.
        workers: processes that prepare samples.
        shared: what evaluators have in common, so that samples are embedded once for all of them.
    """

    inputs: Inputs
    store: Store
    samples: int = 256
    batch_size: int = 64
    waits: Waits = WAITS
    max_share: float = 0.0
    workers: int = 0
    shared: dict[Any, Any] = field(default_factory=dict)
