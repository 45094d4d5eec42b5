"""What mirroring a run costs its steps: the same run without, to TensorBoard, to a wandb out of reach, and offline.

python scripts/bench_trackers.py --rounds 4      # 9 minutes on two cores; must be quiet, as the mirror has one of them

Runs take turns, one at a time; of each the first steps are left out. Prints medians over the rounds of the sum of step
times, and what they are more than without a mirror.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = ["experiment=mlm_tiny", "trainer.threads=1", "loader.workers=1", "report.enabled=false"]
CASES = {
    "without": ["logger=none"],
    "tensorboard": ["logger=tensorboard"],
    "no server": ["logger=wandb"],
    "offline": ["logger=wandb", "logger.wandb.mode=offline"],
}
_WARM_UP = 20


def step_seconds(folder: Path, steps: int, more: list[str], environment: dict[str, str]) -> float:
    """Trains, and sums the times of all steps but the first."""
    arguments = [*RUN, *more, f"max_steps={steps}", f"evaluate.every_n_steps={steps}", f"run_dir={folder}"]
    subprocess.run([sys.executable, "-m", "pretrain", *arguments], check=True, capture_output=True, env=environment)
    rows = [json.loads(line) for line in (folder / "speed.jsonl").read_text().splitlines()]
    return sum(row["seconds"] for row in rows[_WARM_UP:])


def main() -> None:
    """Runs all cases in turn, and prints a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cases", default=",".join(CASES), help="by comma; the first is compared with")
    arguments = parser.parse_args()
    cases = {name: CASES[name] for name in arguments.cases.split(",")}
    with socket.socket() as listening:  # a port at which nobody listens once it is closed
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    environment = {**os.environ, "WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    found: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.rounds):
            for name, more in cases.items():
                folder = Path(scratch) / f"{number}-{name}"
                found[name].append(step_seconds(folder, arguments.steps, more, environment))
    base = statistics.median(found[next(iter(cases))])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{name:<11} {middle:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {middle / base - 1:+.1%}")


if __name__ == "__main__":
    main()
