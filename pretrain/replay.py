"""The samples of some steps of a run, one by one: to list them, or to look at what the model saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError, SampleError, choices
from data.stream import Place, Stream
from data.write import write
from pretrain import ledger
from pretrain.run import CONFIG, RunDirectory

_LONGEST = 100  # bytes of a key or an extension in a file's name, of the 255 that file systems allow for all of it


@dataclass(frozen=True)
class Seen:
    """A sample that a run saw.

    Attributes:
        step: counted from 1.
        task: whose batch it was in.
        position: in the task's stream.
        place: source and number of what was used.
        recorded: whether the ledger says so; else it is computed from the config and its starts.
        replaced: why the samples that stood there first could not be used: ``{"shard", "key", "reason"}`` each.
    """

    step: int
    task: str
    position: int
    place: Place
    recorded: bool
    replaced: list[dict[str, str]]


def opened(run: Path, steps: str) -> tuple[RunDirectory, dict[str, Stream], int, int]:
    """(directory, streams, first step, last step) for ``--steps``.

    Raises:
        InputError: ``run`` is no run directory, has not come so far, or its shards are not there.
    """
    first, last = ledger.steps_range(steps)
    if not (run.expanduser() / CONFIG).is_file():
        raise InputError(f"'{run}' is not a run directory (it has no {CONFIG})")
    directory = RunDirectory(str(run), rank=-1)
    streams = ledger.streams_of(directory)
    done = ledger.steps_done(directory)
    if first > done:
        raise InputError(f"--steps '{steps}': '{run}' has done {done} steps")
    return directory, streams, first, last


def seen(
    directory: RunDirectory, streams: Mapping[str, Stream], first: int, last: int, task: str | None = None
) -> Iterator[Seen]:
    """The samples of the steps ``first`` to ``last``, step by step, task by task, in the order of positions.

    Raises:
        InputError: ``task`` is none of the run's, or its shards are other ones now.
    """
    if task is not None and task not in streams:
        raise InputError(f"--task '{task}' is not a task of '{directory.path}'; {choices(task, streams)}")
    known = {(row["step"], row["task"]): row for row in ledger.recorded(directory, first, last)}
    unusable = _unusable(directory, first, last)
    for step, name, position, size in ledger.batches(directory, first, last):
        if task not in (None, name):
            continue
        stream, row = streams[name], known.get((step, name))
        positions = stream.arrange(np.arange(position, position + size))
        if row is None:
            places = stream.locate(positions)
        else:
            if row["position"] != position or len(row["places"]) != size:
                raise InputError(
                    f"step {step}: the ledger has {len(row['places'])} samples of task '{name}' from position "
                    f"{row['position']} on, and starts.jsonl says {size} from {position} on; is a rank's file missing?"
                )
            places = [ledger.place_of(stream, position, *pair) for pair in row["places"]]
        for index in np.argsort(positions, kind="stable").tolist():
            at, place = int(positions[index]), places[index]
            replaced = unusable.get((step, name, at), [])
            if row is None:
                for attempt in range(len(replaced)):
                    place = stream.replacement(place, at, attempt)
            yield Seen(step, name, at, place, row is not None, replaced)


def _unusable(directory: RunDirectory, first: int, last: int) -> dict[tuple[int, str, int], list[dict[str, str]]]:
    found: dict[tuple[int, str, int], list[dict[str, str]]] = {}
    for path in directory.quarantines():
        for row in directory.rows(path.name):
            if first <= row["step"] <= last:
                facts = {name: row[name] for name in ("shard", "key", "reason")}
                found.setdefault((row["step"], row["task"], row["position"]), []).append(facts)
    return found


def described(sample: Seen, stream: Stream) -> dict[str, Any]:
    """The sample as plain values, its shard and key among them.

    Raises:
        SampleError: its shard cannot be read any more.
    """
    shard, key = stream.identity(sample.place)
    row = {
        "step": sample.step,
        "task": sample.task,
        "position": sample.position,
        "source": stream.sources[sample.place.source].name,
        "shard": shard,
        "key": key,
        "recorded": sample.recorded,
    }
    return row | ({"replaced": sample.replaced} if sample.replaced else {})


def dump(
    samples: Iterable[Seen], streams: Mapping[str, Stream], folder: Path, shards: bool
) -> Iterator[dict[str, Any]]:
    """Writes the members of each sample as ``folder/TASK/STEP_POSITION_KEY.EXTENSION``, and ``folder/index.jsonl``.

    Of a key that no file or shard can be named by, KEY is what is left; ``name`` in the index says what it came to.

    Args:
        samples: in the order of steps.
        streams: task -> its stream.
        folder: made if missing; must be empty.
        shards: write ``folder/TASK-000000.tar`` and so on instead of single files.

    Yields:
        The row of ``index.jsonl`` of each sample once it is written.

    Raises:
        InputError: the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--dump '{folder}' is not an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "index.jsonl", "w") as index:
            if shards:
                # One pass over the samples a task: a shard is written from its first sample to its last.
                everything = list(samples)
                for task in dict.fromkeys(sample.task for sample in everything):
                    rows: list[dict[str, Any]] = []
                    own = (sample for sample in everything if sample.task == task)
                    write(((r["name"], m) for r, m in _read(own, streams, rows)), folder, task)
                    for row in rows:
                        index.write(json.dumps(row) + "\n")
                        yield row
                return
            for row, members in _read(samples, streams, []):
                (folder / row["task"]).mkdir(exist_ok=True)
                for extension, content in members.items():
                    (folder / row["task"] / f"{row['name']}.{extension}").write_bytes(content)
                index.write(json.dumps(row) + "\n")
                yield row
    except OSError as error:
        raise InputError(f"--dump '{folder}' cannot be written: {error.strerror}") from None


def _read(
    samples: Iterable[Seen], streams: Mapping[str, Stream], rows: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """(row, members) of each sample; ``rows`` gets the rows too."""
    for sample in samples:
        stream = streams[sample.task]
        row = described(sample, stream)
        try:
            members = stream.read(sample.place).members
        except SampleError as error:
            row["unreadable"], members = str(error), {}
        row["name"] = f"{sample.step:08d}_{sample.position:012d}_{_name(row['key'])}"
        rows.append(row)
        yield row, {_name(extension, dots=True): content for extension, content in members.items()}


def _name(text: str, dots: bool = False) -> str:
    """A key, or an extension, as a part of a file's name: printable, without slashes, and no longer than there is room.

    Args:
        text: the key or extension.
        dots: whether they may stay; the key of a sample in a shard ends at the first one.
    """
    name = "".join(c if c.isprintable() and c != "/" and (dots or c != ".") else "_" for c in text)
    if len(name.encode()) <= _LONGEST and (name == text or not dots):
        return name
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{name.encode()[: _LONGEST - 9].decode('utf-8', 'ignore')}-{digest}"
