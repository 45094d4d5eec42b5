"""What a run is going to need, tried before its first step: shards, samples that can be prepared, room on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.loading.loader import TaskData, prepare_at
from data.loading.units import describe_wait
from data.loading.watch import Watchdog, seats
from data.stream import Stream
from pretrain.checkpoint.preflight import preflight as try_saving
from pretrain.checkpoint.retention import retention_of
from pretrain.faults import Faults
from pretrain.model import Model, Task
from pretrain.run import RunDirectory
from pretrain.soundness.policies import rewinds_by
from pretrain.trial import try_step, worth_it

SHARDS = 16
"""Of a source: those that a manifest names are asked for before the first step, spread over all of them."""
_SAMPLES = 8
_COMPUTED = 2  # a loss that sets samples against one another has nothing to do with one
# A remote shard takes long to come, and each sample may lie in another one; the first is needed at once anyway.
_REMOTE_SAMPLES = 1


def look(
    faults: Faults,
    config: Mapping[str, Any],
    directory: RunDirectory,
    tasks: Mapping[str, Task],
    streams: Mapping[str, Stream],
    positions: Mapping[str, int],
    size: int,
    model: Model | None = None,
) -> None:
    """Notes all that would keep the run from its first step; for rank 0.

    Opening the streams has asked for every shard that no manifest names, and has looked for the members of each sample.

    Args:
        faults: gets what is found.
        config: of the run, resolved.
        directory: of the run.
        tasks: of the model.
        streams: task -> its stream, of those that could be opened.
        positions: task -> where it goes on.
        size: of one checkpoint, bytes.
        model: to try one step with, on the smallest shapes; None where it has computed already, or is divided.

    Raises:
        RunError: a remote shard cannot be had, or a sample takes longer than ``loader.deadline_s``.
    """
    for name, stream in streams.items():
        known = len(faults.lines)
        for source in stream.sources:
            with faults.noted():
                source.reach(SHARDS)
        if len(faults.lines) == known:
            with faults.noted():
                _prepare_some(config, tasks[name], stream, positions[name])
                if model is not None and not stream.remote and worth_it(config, model):
                    _compute_some(config, tasks[name], stream, positions[name], model)
        stream.close()
    with faults.noted():
        try_saving(directory.checkpoints, retention_of(config["checkpoint"], rewinds_by(config)), size)


def _compute_some(config: Mapping[str, Any], task: Task, stream: Stream, position: int, model: Model) -> None:
    """Computes a step of the first few of these samples.

    Raises:
        InputError: see :func:`pretrain.trial.try_step`.
    """
    batch_size = config["tasks"][task.name]["batch_size"]
    positions = stream.arrange(np.arange(position, position + batch_size))[:_COMPUTED].tolist()
    unit = prepare_at(TaskData(stream, task.prepare, batch_size), positions, training=True, seat=seats(1)[0])
    try_step(model, task.name, unit.batch)


def _prepare_some(config: Mapping[str, Any], task: Task, stream: Stream, position: int) -> None:
    """Prepares the first samples of the next step, as a loader does.

    Raises:
        InputError: so many in a row cannot be used that the data is at fault.
    """
    batch_size, waits = config["tasks"][task.name]["batch_size"], config["loader"]
    positions = stream.arrange(np.arange(position, position + batch_size))
    data, seat = TaskData(stream, task.prepare, batch_size), seats(1)[0]
    late = Watchdog(
        lambda: f"before the first step: {describe_wait(seat.doing(), {stream.task: data})}",
        waits["warn_after_s"],
        waits["deadline_s"],
    )
    with late.watching():
        late.begin()
        some = positions[: _REMOTE_SAMPLES if stream.remote else _SAMPLES].tolist()
        prepare_at(data, some, training=True, seat=seat)
        late.end()
