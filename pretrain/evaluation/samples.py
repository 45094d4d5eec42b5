"""Samples of a held-out source, prepared once and kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from data.loading.loader import Rejected, TaskData, prepare_at
from data.loading.units import describe_wait
from data.loading.watch import Watchdog, seats
from data.store.store import Store
from data.stream import Stream
from pretrain.devices import moved
from pretrain.model import Model

log = logging.getLogger("pretrain")

Waits: TypeAlias = tuple[float, float]
WAITS: Waits = (30.0, 300.0)


class _Moving(Sequence[dict[str, Any]]):
    """Batches of the host, of which the device holds none but those that somebody has taken."""

    def __init__(self, batches: Sequence[dict[str, Any]], device: torch.device) -> None:
        self._batches, self._device = batches, device

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: Any) -> Any:
        found: dict[str, Any] = moved(self._batches[number], self._device)
        return found


class Samples:
    """Samples of a held-out source, prepared once and kept.

    Args:
        name: of the task or evaluator; seeds the masks, so that every measurement sees the same ones.
        source: pattern or patterns of one source.
        prepare: sample -> tensors; called with ``training=False``.
        samples: how many at most; fewer than all are spread over it evenly, see :meth:`data.stream.Stream.spread`.
        batch_size: how many go through the model at once.
        waits: seconds that a batch may take to prepare until a warning says why, and until the run ends.
        store: where shards are read from.

    Attributes:
        rejected: samples that cannot be used and are left out, once the batches are prepared.
    """

    def __init__(
        self,
        name: str,
        source: Any,
        prepare: Any,
        samples: int,
        batch_size: int,
        waits: Waits = WAITS,
        store: Store | None = None,
    ) -> None:
        self.stream = Stream(f"{name}.heldout", source, seed=0, ordering=None, store=store)
        self.prepare, self.batch_size = prepare, batch_size
        self.positions = self.stream.spread(samples)
        self.rejected: list[Rejected] = []
        self._waits = waits
        self._batches: list[dict[str, Any]] | None = None

    def batches(self, model: Model) -> Sequence[dict[str, Any]]:
        """The prepared batches, each on the model's device while it is looked at."""
        device = next(model.parameters()).device
        if self._batches is None:
            self._batches = self._prepare()
        return _Moving(self._batches, device)

    def _prepare(self) -> list[dict[str, Any]]:
        data = TaskData(self.stream, self.prepare, self.batch_size)
        seat, batches = seats(1)[0], []
        late = Watchdog(lambda: f"held-out data: {describe_wait(seat.doing(), {self.stream.task: data})}", *self._waits)
        with late.watching():
            for begin in range(0, len(self.positions), self.batch_size):
                late.begin()
                positions = self.positions[begin : begin + self.batch_size]
                unit = prepare_at(data, positions, training=False, seat=seat)
                late.end()
                self.rejected += unit.rejected
                batches += [unit.batch] if len(unit.places) else []
        for one in self.rejected:
            log.warning("held-out sample %s; it is left out", one)
        return batches
