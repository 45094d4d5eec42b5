"""``pretrain shards replay``: the samples of some steps of a run, to list or to look at."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from pretrain.verbs import options

if TYPE_CHECKING:
    from data.stream import Stream

DESCRIPTION = (
    "Lists the samples of some steps of a run, or writes them to files: what did the model see before the loss went "
    "up? As recorded (a run with ledger=true), else as computed from the run's config and its starts; samples that "
    "took the place of unusable ones are marked."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run directory")
    parser.add_argument("--steps", metavar="A:B", required=True, help="first and last step, both included; A: one step")
    parser.add_argument("--task", metavar="TASK", help="of this task alone")
    parser.add_argument("--dump", metavar="DIR", type=Path, help="write DIR/TASK/STEP_POSITION_KEY.EXT and index.jsonl")
    parser.add_argument("--tar", action="store_true", help="with --dump: write shards, DIR/TASK-000000.tar, not files")
    options.add_json(parser, "print one JSON object a sample")


def run(arguments: argparse.Namespace) -> int:
    """Lists or dumps samples.

    Raises:
        InputError: RUN is no run directory, its shards are other ones now, or the folder cannot be written.
    """
    from pretrain import replay

    if arguments.tar and arguments.dump is None:
        raise InputError("--tar says how to write: give --dump DIR as well")
    directory, streams, first, last = replay.opened(arguments.run_dir, arguments.steps)
    samples = replay.seen(directory, streams, first, last, arguments.task)
    if arguments.dump is not None:
        rows: Iterable[dict[str, Any]] = replay.dump(samples, streams, arguments.dump.expanduser(), arguments.tar)
    else:
        rows = (replay.described(sample, streams[sample.task]) for sample in samples)
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    _show(rows, streams, arguments.dump)
    return 0


def _show(rows: Iterable[dict[str, Any]], streams: Mapping[str, Stream], dump: Path | None) -> None:
    """Rows as they come: there may be very many."""
    from data.store.url import base

    count = replaced = recorded = 0
    shards = (len(base(source.urls[-1])) for stream in streams.values() for source in stream.sources)
    task, shard = max(map(len, [*streams, "task"])), max(*shards, 5)
    print(f"{'step':>8}  {'task':<{task}}  {'position':>10}  {'shard':<{shard}}  key")
    for row in rows:
        count += 1
        recorded += row["recorded"]
        note = "".join(f"  [for {bad['key']} in {bad['shard']}: {bad['reason']}]" for bad in row.get("replaced", []))
        replaced += bool(note)
        note += f"  [{row['unreadable']}]" if "unreadable" in row else ""
        note += f"  -> {row['name']}" if not row.get("name", row["key"]).endswith(row["key"]) else ""
        begin = f"{row['step']:>8}  {row['task']:<{task}}  {row['position']:>10}  {row['shard']:<{shard}}"
        print(f"{begin}  {row['key']}{note}")
    how = "as recorded" if recorded == count else "as computed" if not recorded else f"{recorded} of them as recorded"
    where = f"; written to {dump}" if dump else ""
    print(f"{count:,} samples {how}, {replaced} in place of unusable ones{where}")
