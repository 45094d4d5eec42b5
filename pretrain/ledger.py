"""Which samples a run saw in which step: as recorded (``ledger=true``), else computed again from its config.

A record names samples by number, some four bytes each: source and number within the source, which the shard list of the
run turns into shard and key.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data.errors import InputError
from data.order.order import Ordering
from data.shards.sources import seen_from
from data.store.store import Store
from data.stream import Place, Stream
from pretrain import checkpoint
from pretrain.run import METRICS, RunDirectory
from pretrain.storage import open_store

Row = dict[str, Any]
_ENDLESS = 2**60


def steps_range(text: str) -> tuple[int, int]:
    """First and last step of ``A:B``, both included; an empty end is open, and ``A`` alone is one step.

    Raises:
        InputError: it is no such range.
    """
    match = re.fullmatch(r"(\d*)(:?)(\d*)", text)
    if not match or not text or (match[1] and match[3] and int(match[1]) > int(match[3])):
        raise InputError(f"--steps '{text}' is not A:B, the first and the last step (counted from 1, both included)")
    first = int(match[1] or 1)
    return first, int(match[3] or 10**18) if match[2] else first


def packed(places: np.ndarray) -> Row:
    """A rank's share of a batch as plain values.

    Args:
        places: (n, 2) int64, source and number within the source.
    """
    if not len(places):
        return {"count": 0, "low": [0, 0], "width": [0, 0], "places": ""}
    low = places.min(0)
    rest = (places - low).astype("<u8")
    widths = [(int(most).bit_length() + 7) // 8 for most in rest.max(0)]
    # Byte by byte: the high bytes of all numbers are alike, which is what zlib makes use of.
    planes = [_bytes(rest[:, column])[:, :width].T.tobytes() for column, width in enumerate(widths)]
    text = base64.b85encode(zlib.compress(b"".join(planes), 9)).decode()
    return {"count": len(places), "low": low.tolist(), "width": widths, "places": text}


def unpacked(row: Mapping[str, Any]) -> np.ndarray:
    """The inverse of :func:`packed`: (n, 2) int64.

    Raises:
        InputError: the row is no such record.
    """
    try:
        count, widths = row["count"], row["width"]
        planes = np.frombuffer(zlib.decompress(base64.b85decode(row["places"])) if count else b"", dtype=np.uint8)
        if len(planes) != count * sum(widths):
            raise ValueError
        columns, begin = [], 0
        for width in widths:
            whole = np.zeros((count, 8), dtype=np.uint8)
            whole[:, :width] = planes[begin : begin + count * width].reshape(width, count).T
            columns.append(whole.view("<u8")[:, 0].astype(np.int64))
            begin += count * width
        return np.stack(columns, 1) + np.array(row["low"], dtype=np.int64)
    except (KeyError, ValueError, TypeError, zlib.error):
        raise InputError(
            f"the ledger's row of step {row.get('step')} is no record of samples: {str(row)[:80]}"
        ) from None


def _bytes(column: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1, 8)


def recorded(directory: RunDirectory, first: int, last: int) -> Iterator[Row]:
    """The recorded rows ``{"step", "task", "position", "places"}``, the ranks' shares put together.

    ``position`` is the first of the global batch; ``places`` its (source, number) pairs in the order of dealing.
    """
    # Each rank records its share; a global batch is dealt in rank order.
    found: dict[tuple[int, str], Row] = {}
    for path in directory.ledgers():
        for row in directory.rows(str(path.relative_to(directory.path))):
            if first <= row["step"] <= last:
                whole = {"step": row["step"], "task": row["task"], "position": row["position"], "places": []}
                found.setdefault((row["step"], row["task"]), whole)["places"].extend(unpacked(row).tolist())
    for _, whole in sorted(found.items(), key=lambda item: item[0][0]):
        yield whole


def computed(directory: RunDirectory, first: int, last: int) -> Iterator[Row]:
    """The same from the run's config and its starts: what stands at each position, before any sample was replaced."""
    streams = streams_of(directory)
    for step, task, position, size in batches(directory, first, last):
        stream = streams[task]
        places = stream.locate(stream.arrange(np.arange(position, position + size)))
        pairs = [[place.source, place.number] for place in places]
        yield {"step": step, "task": task, "position": position, "places": pairs}


def batches(directory: RunDirectory, first: int, last: int) -> Iterator[tuple[int, str, int, int]]:
    """(step, task, first position, samples) of each global batch of the steps ``first`` to ``last`` that are done."""
    starts = list(directory.rows("starts.jsonl"))
    tasks = config_of(directory)["tasks"]
    for step in range(max(1, first), min(last, steps_done(directory)) + 1):
        start = next((s for s in reversed(starts) if s["step"] < step), None)  # a later start went over what follows
        if start is not None:  # else a step of the run that this one goes on from
            for task, size in start["batch_sizes"].items():
                if task in tasks:
                    yield step, task, start["positions"][task] + (step - 1 - start["step"]) * size, size


def steps_done(directory: RunDirectory) -> int:
    """The last step of the run that is known to be done."""
    done = max((row["step"] for row in directory.rows(METRICS)), default=0)
    newest = checkpoint.published(directory.checkpoints)
    return max(done, checkpoint.step_of(newest[0]) if newest else 0)


def position_after(directory: RunDirectory, task: str, step: int) -> int:
    """How many samples of ``task`` the run has consumed after ``step``."""
    found = [start for start in directory.rows("starts.jsonl") if start["step"] <= step and task in start["positions"]]
    if not found:
        return 0
    return found[-1]["positions"][task] + (step - found[-1]["step"]) * found[-1]["batch_sizes"][task]


def samples_seen(directory: RunDirectory, step: int) -> int:
    """How many samples, of all tasks, the run has seen in its own steps up to ``step``.

    Each start counts with the batches it had; what was jumped over, or seen by another run that this one goes on from,
    does not count. A start whose row is damaged counts with the batches of the one before it.
    """
    total = 0
    for start in reversed(list(directory.rows("starts.jsonl", damaged=True))):  # a later start went over what follows
        if start["step"] < step:
            total += (step - start["step"]) * sum(start["batch_sizes"].values())
            step = start["step"]
    return total


def config_of(directory: RunDirectory) -> dict[str, Any]:
    """The run's config.

    Raises:
        InputError: it is no run directory.
    """
    config = directory.frozen_config()
    if config is None:
        raise InputError(f"'{directory.path}' is not a run directory (it has no config.yaml)")
    return config


def streams_of(directory: RunDirectory, store: Store | None = None) -> dict[str, Stream]:
    """Task -> its stream as it was over the whole run so far.

    Relative names of shards that are not here are those of the folder that the run was last started in.

    Raises:
        InputError: it is no run directory, or its shards are not there.
    """
    config = config_of(directory)
    if store is None and "cache" in config:
        store = open_store(config)
    past: dict[str, Any] = {}
    folder = None
    for start in directory.rows("starts.jsonl"):
        past |= start.get("segments", {})
        folder = start.get("folder") or folder
    streams = {}
    for name, spec in config["tasks"].items():
        ordering = Ordering(**config["order"]) if "order" in config else Ordering()
        source = seen_from(folder, spec["source"]) if folder else spec["source"]
        try:
            streams[name] = Stream(name, source, config["seed"], ordering, spec.get("alpha"), store)
        except InputError as error:
            unknown = folder is None and seen_from("/", source) != source
            where = "; it is taken from this folder: the run does not say which one it was started in" * unknown
            raise InputError(f"{error}{where}") from None
        # What is other now than at the last start counts from beyond any position of the past.
        streams[name].adopt(past.get(name, []), _ENDLESS)
    return streams


def place_of(stream: Stream, position: int, source: int, number: int) -> Place:
    """The place that a pair of a record means at ``position``.

    Raises:
        InputError: the source is not there any more, or has other shards than when it was recorded.
    """
    segment = next(s for s in reversed(stream.segments) if s.position <= position)
    name = segment.drawn[source]
    names = [one.name for one in stream.sources]
    digests = stream.fingerprint()
    if name not in names or digests[name] != segment.parts[name].digest:
        state = "is not there any more" if name not in names else "has other shards now than the run was made with"
        raise InputError(
            f"source '{name}' {state}: which samples stood from position {segment.position} of task '{stream.task}' on "
            "cannot be told; put the shards back where they were"
        )
    return Place(names.index(name), 0, number)
