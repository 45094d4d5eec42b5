"""Samples of a held-out source, prepared again for each measurement."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from data.loading.loader import Rejected, TaskData
from data.loading.once import OnceLoader
from data.stream import Stream
from modalities.prepare import Batch
from pretrain.evaluation.setting import Setting

log = logging.getLogger("pretrain")


class Passes:
    """Goes through samples of a source, by the loader of training.

    Args:
        name: of the evaluator, for messages.
        source: pattern or patterns of one source.
        prepare: sample -> item; with ``needs`` and ``collate``.
        samples: how many at most; fewer than all are spread over it evenly, see :meth:`data.stream.Stream.spread`.
        setting: of the run.

    Attributes:
        rejected: samples that cannot be used and are left out, once they were read.
        tells: whether it logs them.

    Raises:
        InputError: the source matches nothing or lacks a member.
    """

    def __init__(self, name: str, source: Any, prepare: Any, samples: int, setting: Setting) -> None:
        self.setting, self.prepare = setting, prepare
        self.stream = Stream(f"{name}.heldout", source, seed=0, ordering=None, store=setting.store)
        for one in self.stream.sources:
            one.require(prepare.needs, setting.max_share)
        self.positions = self.stream.spread(samples)
        self.rejected: list[Rejected] = []
        self.tells = True

    def batches(self) -> Iterator[Batch]:
        """What ``prepare.collate`` makes, batch after batch; a batch of which nothing can be used is passed over."""
        size = self.setting.batch_size
        places = [self.positions[begin : begin + size] for begin in range(0, len(self.positions), size)]
        data = TaskData(self.stream, self.prepare, size)
        rejected: list[Rejected] = []
        for step in OnceLoader(data, places, self.setting.workers, 4, *self.setting.waits):
            rejected += step.rejected
            (batch,) = step.tasks[self.stream.task]
            if batch:
                yield batch
        if self.tells and not self.rejected:
            for one in rejected:
                log.warning("held-out sample %s; it is left out", one)
        self.rejected = rejected
