"""What watchers beside a training cost its steps: the same run alone, and with three that are killed at random.

  python scripts/bench_watch.py --rounds 4      # 8 minutes on two cores; must be quiet

The training has the first core to itself and the watchers the others, as on another device. Runs take turns; of each
the first steps are left out. Prints medians over the rounds of the sum of step times, and of the time of the whole
process, how many checkpoints were evaluated by its end, and how often watchers were killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PRETRAIN = [sys.executable, "-m", "pretrain"]
RUN = ["experiment=mlm_tiny", "trainer.threads=1", "loader.workers=0", "report.enabled=false", "logger=none"]
WATCHERS, WARM_UP = 3, 20


def begin(command: list[str], cores: set[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PRETRAIN, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip


def train(folder: Path, steps: int, every: int, watched: bool, seed: int) -> tuple[float, float, int, int]:
    """Trains; returns the times of steps but the first, of all of it, evaluations by its end, and watchers killed."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        sys.exit("one core: a watcher would have to share it with the training")
    more = [f"max_steps={steps}", f"checkpoint.every_n_steps={every}", f"evaluate.every_n_steps={steps}"]
    more += [f"checkpoint.keep_every_n_steps={every}", f"run_dir={folder}"]
    begun = time.monotonic()
    training = begin([*RUN, *more], {first})
    watch = ["evaluate", str(folder), "watch=true", "--every", "0.1", "--patience", "120", "trainer.threads=1"]
    watchers = [begin(watch, set(others)) for _ in range(WATCHERS)] if watched else []
    draw, killed = random.Random(seed), 0
    try:
        while training.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                training.wait(timeout=draw.uniform(5, 12))
            if watchers and training.poll() is None:
                place = draw.randrange(WATCHERS)
                watchers[place].kill()
                watchers[place].wait()
                watchers[place] = begin(watch, set(others))
                killed += 1
        whole = time.monotonic() - begun
        done = len(list((folder / "evaluations").glob("step-*.json")))
    finally:
        for process in (training, *watchers):
            process.kill()
            process.wait()
    if training.returncode:
        sys.exit(f"the training ended with {training.returncode}; see {folder}/log.txt")
    rows = [json.loads(line) for line in (folder / "speed.jsonl").read_text().splitlines()]
    return sum(row["seconds"] for row in rows[WARM_UP:]), whole, done, killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--every", type=int, default=40, help="steps between two checkpoints")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float, int, int]]] = {"alone": [], "watched": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(args.rounds):
            for name, rows in found.items():
                folder = Path(scratch) / f"{number}-{name}"
                rows.append(train(folder, args.steps, args.every, name == "watched", number))
    for name, rows in found.items():
        *times, done, killed = ([row[place] for row in rows] for place in range(4))
        for what, place, seconds in zip(("steps", "whole"), range(2), times, strict=True):
            middle, base = statistics.median(seconds), statistics.median(row[place] for row in found["alone"])
            print(f"{name} {what} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {middle / base - 1:+.1%}")
        print(
            f"{sum(done)} of {args.rounds * (args.steps // args.every)} checkpoints evaluated by its end, "
            f"{sum(killed)} watchers killed"
        )


if __name__ == "__main__":
    main()
