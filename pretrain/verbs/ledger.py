"""``pretrain shards ledger``: the samples that a run saw, one line of JSON a step and task."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

DESCRIPTION = (
    "Prints one JSON object for each task of each step, with the (shard, key) of its samples: as recorded (a run with "
    "ledger=true), else as computed from the run's config and its starts."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run directory")
    parser.add_argument("--steps", metavar="A:B", default=":", help="first and last step, both included (default: all)")
    parser.add_argument("--task", metavar="TASK", help="of this task alone")


def run(arguments: argparse.Namespace) -> int:
    """One line of JSON for each task of each step.

    Raises:
        InputError: RUN is no run directory, or its shards are other ones now.
    """
    from itertools import groupby

    from pretrain import replay

    directory, streams, first, last = replay.opened(arguments.run_dir, arguments.steps)
    samples = replay.seen(directory, streams, first, last, arguments.task)
    for (step, task), group in groupby(samples, key=lambda sample: (sample.step, sample.task)):
        own = list(group)
        names = [list(streams[task].identity(sample.place)) for sample in own]
        row = {"step": step, "task": task, "position": own[0].position, "recorded": own[0].recorded, "samples": names}
        print(json.dumps(row))
    return 0
