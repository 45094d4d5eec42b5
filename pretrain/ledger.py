"""Which samples a run saw in which step: as recorded (``ledger=true``), else computed again from its config."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.stream import Stream
from pretrain import checkpoint
from pretrain.run import METRICS, RunDirectory

Row = dict[str, Any]


def steps_range(text: str) -> tuple[int, int]:
    """First and last step of ``A:B``, both included; an empty end is open.

    Raises:
        InputError: it is no such range.
    """
    match = re.fullmatch(r"(\d*):(\d*)", text)
    if not match or (match[1] and match[2] and int(match[1]) > int(match[2])):
        raise InputError(f"--steps '{text}' is not A:B, the first and the last step (counted from 1, both included)")
    return int(match[1] or 1), int(match[2] or 10**18)


def recorded(directory: RunDirectory, first: int, last: int) -> Iterator[Row]:
    """The recorded rows ``{"step", "task", "samples": [[shard, key], ...]}``, the ranks' shares put together."""
    # Each rank records its share; a global batch is dealt in rank order.
    found: dict[tuple[int, str], list[list[str]]] = {}
    for path in directory.ledgers():
        for row in directory.rows(str(path.relative_to(directory.path))):
            if first <= row["step"] <= last:
                found.setdefault((row["step"], row["task"]), []).extend(row["samples"])
    for (step, task), samples in sorted(found.items(), key=lambda item: item[0][0]):
        yield {"step": step, "task": task, "samples": samples}


def computed(directory: RunDirectory, first: int, last: int) -> Iterator[Row]:
    """The same from the run's config and its starts: what stands at each position, before any sample was replaced."""
    config = directory.frozen_config()
    assert config is not None
    done = max((row["step"] for row in directory.rows(METRICS)), default=0)
    newest = checkpoint.published(directory.checkpoints)
    done = max(done, checkpoint.step_of(newest[0]) if newest else 0)
    streams = {name: Stream(name, spec["source"], config["seed"]) for name, spec in config["tasks"].items()}
    starts = list(directory.rows("starts.jsonl"))
    for step in range(max(1, first), min(last, done) + 1):
        start = next(s for s in reversed(starts) if s["step"] < step)  # a later start went over the steps after it
        for name, size in start["batch_sizes"].items():
            if name in streams:
                position = start["positions"][name] + (step - 1 - start["step"]) * size
                places = streams[name].locate(np.arange(position, position + size))
                yield {"step": step, "task": name, "samples": [list(streams[name].identity(p)) for p in places]}


def print_ledger(run: Path, steps: str) -> None:
    """One line of JSON for each task of each step: as recorded, and where nothing was recorded, as computed.

    Raises:
        InputError: ``run`` is no run directory.
    """
    first, last = steps_range(steps)
    directory = RunDirectory(str(run), rank=-1)
    if directory.frozen_config() is None:
        raise InputError(f"'{run}' is not a run directory (it has no config.yaml)")
    known = {(row["step"], row["task"]): row for row in recorded(directory, first, last)}
    for row in computed(directory, first, last):
        print(json.dumps(known.get((row["step"], row["task"]), row)))
