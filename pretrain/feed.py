"""What feeds a run: each task's stream, checked against what the task needs, and the loader over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import InputError
from data.loader import StepLoader, TaskData
from data.stream import Stream
from pretrain.model import Model


def open_streams(config: Mapping[str, Any], model: Model) -> dict[str, Stream]:
    """Task -> its stream, with every sample known to have the members its task needs.

    Raises:
        InputError: a source is not given, matches nothing, is empty, or lacks members.
    """
    streams = {}
    for name, spec in config["tasks"].items():
        if spec["source"] is None:
            raise InputError(f"tasks.{name}.source is not given; name shards: tasks.{name}.source='shards/own-*.tar'")
        streams[name] = Stream(name, spec["source"], config["seed"])
        for source in streams[name].sources:
            source.require(model.tasks[name].prepare.needs)
    return streams


def build_loader(
    config: Mapping[str, Any],
    model: Model,
    streams: Mapping[str, Stream],
    start: tuple[int, Mapping[str, int]],
    rank: int,
    world_size: int,
    pin_memory: bool,
) -> StepLoader:
    """The steps from ``start`` (step, task -> position) to ``max_steps``, this rank's share of each."""
    step, positions = start
    tasks = {
        name: TaskData(
            streams[name], model.tasks[name].prepare, spec["batch_size"], spec["micro_batch_size"], positions[name]
        )
        for name, spec in config["tasks"].items()
    }
    return StepLoader(tasks, step, config["max_steps"], rank, world_size, **config["loader"], pin_memory=pin_memory)
