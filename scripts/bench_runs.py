"""What `pretrain runs` over many run directories costs, and `pretrain --help`: whole commands.

python scripts/bench_runs.py                     # a thousand directories, made in a temporary folder
python scripts/bench_runs.py --count 100 --profile

Directories are as a run of the demo leaves them: its config, rows of 500 steps, three starts, two checkpoints.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_STEPS = 500
_METRICS = 45


def fill(folder: Path, config: str) -> None:
    """Makes ``folder`` a run directory."""
    for step in (400, 500):
        (folder / f"checkpoints/step-{step:08d}").mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "lock").write_text("process 4711 on node7\n")
    (folder / "ended.json").write_text(json.dumps({"state": "finished", "cause": ""}) + "\n")
    (folder / "progress").write_text("500 1\n")
    metrics = {f"task{n % 4}/metric_{n}": 0.1234567890123 * n for n in range(_METRICS)}
    speed = {"seconds": 0.51, "data_wait": 0.01, "samples": 136}
    for name, row in (("metrics.jsonl", {"loss": 1.0, **metrics}), ("speed.jsonl", speed)):
        (folder / name).write_text("".join(json.dumps({"step": n + 1, **row}) + "\n" for n in range(_STEPS)))
    start = {"time": "2026-11-21T12:00:00+00:00", "began": time.time() - 900, "overrides": [], "packages": {}}
    starts = [start | {"step": n, "previous_end": time.time() - 600 if n else None} for n in (0, 100, 300)]
    (folder / "starts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in starts))


def timed(*arguments: str, quiet: bool = True) -> tuple[float, float]:
    """Seconds of a command, on the clock and of the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL if quiet else None, check=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Makes the directories and prints a row a command: the best of three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    arguments = parser.parse_args()
    frozen = (
        "from omegaconf import OmegaConf; from pretrain import config; print(OmegaConf.to_yaml(config.load([], None)))"
    )
    config = subprocess.run([sys.executable, "-c", frozen], capture_output=True, text=True, check=True).stdout
    os.environ["COLUMNS"] = "200"
    with tempfile.TemporaryDirectory() as root:
        for number in range(arguments.count):
            fill(Path(root) / f"sweep{number % 10}" / f"run{number:05d}", config)
        listing = ("-m", "pretrain", "runs", "list", root)
        if arguments.profile:
            timed("-m", "cProfile", "-s", "cumulative", *listing, quiet=False)
            return
        commands = {f"runs list, {arguments.count:,} directories": listing, "--help": ("-m", "pretrain", "--help")}
        for name, command in commands.items():
            seconds, processor = min(timed(*command) for _ in range(3))
            print(f"{name}: {seconds:.2f} s, {processor:.2f} s of the processor")


if __name__ == "__main__":
    main()
