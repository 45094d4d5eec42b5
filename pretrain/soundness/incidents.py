"""Sick numbers are written down, with the samples of their step, and wait for the step's edge to be answered."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import InputError
from data.stream import Stream
from pretrain.ledger import packed
from pretrain.run import EVENTS, RunDirectory
from pretrain.soundness.policies import REWIND, SKIP, STOP, WARN
from pretrain.start import Start

log = logging.getLogger("pretrain")

ANSWERS = (WARN, SKIP, REWIND, STOP)
"""By number, as ranks exchange them. ``skip`` is to jump over samples from here on."""


@dataclass(frozen=True)
class Incident:
    """What asks for an answer.

    Attributes:
        answer: one of :data:`ANSWERS`.
        step: the sick one, counted from 1.
        reason: for a person, one clause.
        event: its row in ``events.jsonl``.
    """

    answer: str
    step: int
    reason: str
    event: dict[str, Any]


class Incidents:
    """Where alarms report to.

    Args:
        directory: of the run; rank 0 writes ``events.jsonl``.
        streams: task -> its stream.
        batch_sizes: task -> global batch, samples.

    Attributes:
        worst: what asks for the strictest answer since the last edge of a step, the earliest where several do.
    """

    def __init__(self, directory: RunDirectory, streams: Mapping[str, Stream], batch_sizes: Mapping[str, int]) -> None:
        self.directory, self.streams, self.batch_sizes = directory, streams, batch_sizes
        self.worst: Incident | None = None

    def report(self, start: Start, step: int, event: Mapping[str, Any], answer: str, reason: str) -> None:
        """Writes an event and keeps what it asks for.

        Args:
            start: where the run went on from last.
            step: the sick one, counted from 1.
            event: what happened; ``step``, ``policy`` and ``samples`` are added.
            answer: one of :data:`ANSWERS`.
            reason: for a person, one clause.
        """
        row: dict[str, Any] = {"step": step, **_plain(event), "policy": answer}
        if self.directory.rank == 0:
            try:
                row["samples"] = self.samples(start, step)
            except InputError as error:  # the step before a start that goes on with other shards on purpose
                row["samples"] = {}
                log.warning("the samples of step %d are not known: %s", step, error)
            self.directory.append(EVENTS, row)
            log.warning("step %d: %s", step, reason)
        if self.worst is None or ANSWERS.index(answer) > ANSWERS.index(self.worst.answer):
            self.worst = Incident(answer, step, reason, row)

    def code(self) -> int:
        """The number of what :attr:`worst` asks for, 0 for nothing beyond a warning."""
        return ANSWERS.index(self.worst.answer) if self.worst is not None else 0

    def samples(self, start: Start, step: int) -> dict[str, Any]:
        """Task -> first ``position`` of the global batch of ``step``, and its samples as the ledger records them.

        They are what stands at the positions; a sample among them that could not be used is in quarantine, with what
        it was.
        """
        found: dict[str, Any] = {}
        for task, size in self.batch_sizes.items():
            stream, position = self.streams[task], start.position(task, step - 1, size)
            places = stream.locate_block(stream.arrange(np.arange(position, position + size)))
            found[task] = {"position": position, **packed(places[:, [0, 2]])}
        return found


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
