"""Each task's stream, checked against what the task needs. Imports no Lightning: plans do without its seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from data.errors import InputError
from data.order.order import Ordering
from data.store.store import Store
from data.stream import Stream
from pretrain.faults import Faults
from pretrain.model import Model

_LINES = 20


def open_streams(
    config: Mapping[str, Any], model: Model, store: Store, faults: Faults | None = None
) -> dict[str, Stream]:
    """Task -> its stream, with all samples but a few known to have the members their task needs.

    Args:
        config: of the run, resolved.
        model: whose tasks say what they need.
        store: where shards are read from.
        faults: gets what is wrong, and such tasks are left out; None: it is raised.

    Raises:
        InputError: sources are not given, match nothing, are empty, or lack members; a line for each task.
    """
    streams, found = {}, Faults() if faults is None else faults
    for name, spec in config["tasks"].items():
        with found.noted():
            streams[name] = _open_stream(name, spec, config, model, store)
    if faults is None:
        found.tell()
    return streams


def damage_of(streams: Iterable[Stream]) -> list[str]:
    """What is damaged of the shards of ``streams``, a line a place, each once; of very many the first."""
    found = list(dict.fromkeys(line for stream in streams for source in stream.sources for line in source.damage))
    if len(found) > _LINES:
        found[_LINES:] = [f"and {len(found) - _LINES} more damaged places; `pretrain shards check` names them"]
    return found


def _open_stream(name: str, spec: Mapping[str, Any], config: Mapping[str, Any], model: Model, store: Store) -> Stream:
    if spec["source"] is None:
        raise InputError(f"tasks.{name}.source is not given; name shards: tasks.{name}.source='shards/own-*.tar'")
    stream = Stream(name, spec["source"], config["seed"], Ordering(**config["order"]), spec["alpha"], store)
    for source in stream.sources:
        source.require(model.tasks[name].prepare.needs, config["quarantine"]["max_share"])
    return stream
