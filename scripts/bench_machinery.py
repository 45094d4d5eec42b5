"""What being ready for faults costs: a share of each step, and the start of a run that goes on.

python scripts/bench_machinery.py                 # one process
python scripts/bench_machinery.py --ranks 2
python scripts/bench_machinery.py --start         # from the start of the process to the first new step

A step's share is the time in what judges it, counts attempts, exchanges verdicts, watches for signals and looks whether
a save is due, without the saves themselves (``scripts/bench_checkpoint.py``).
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretrain.callbacks.beginning import Beginning
from pretrain.callbacks.checkpointing import Checkpointing
from pretrain.callbacks.edge import StepEdge
from pretrain.callbacks.reaction import Reaction
from pretrain.callbacks.sickness import Sickness
from pretrain.callbacks.stop import StopOnSignal
from pretrain.soundness.guard import Guard
from tests.faults.campaign import codes_of, steps_of
from tests.integration.ranks import start_together

MACHINERY: list[tuple[type[Any], str]] = [
    *((kind, "on_train_batch_end") for kind in (Beginning, StepEdge, Sickness, Reaction, Checkpointing, StopOnSignal)),
    (Beginning, "on_train_batch_start"),
    (Guard, "judge"),
]
_STEPS = 200
_COLUMNS = len(MACHINERY) + 1


def timed(method: Callable[..., Any], column: int, table: np.ndarray) -> Callable[..., Any]:
    """The method, with its seconds added to the row of the step that the last column counts."""

    def wrapped(self: object, *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        result = method(self, *arguments, **options)
        if os.environ.get("RANK", "0") == "0":
            now = time.perf_counter()
            table[int(table[0, -1]), column] += now - began
            if MACHINERY[column] == (StopOnSignal, "on_train_batch_end"):  # the last of a step
                table[0, -1] += 1
                table[int(table[0, -1]), -1] = now
        return result

    return wrapped


def share_of_a_step(ranks: int, arguments: list[str]) -> None:
    """Prints medians over the steps of a run."""
    shared = mmap.mmap(-1, 8 * _COLUMNS * (_STEPS + 2))
    table = np.frombuffer(shared, dtype=np.float64).reshape(-1, _COLUMNS)
    for column, (kind, name) in enumerate(MACHINERY):
        setattr(kind, name, timed(getattr(kind, name), column, table))
    with tempfile.TemporaryDirectory() as folder:
        command = ["experiment=mlm_tiny", f"run_dir={folder}/run", f"max_steps={_STEPS}", "trainer.accelerator=cpu"]
        command += ["checkpoint.every_n_steps=100000", "evaluate.every_n_steps=100000", *arguments]
        if set(codes_of(start_together(ranks, command), 600)) != {0}:
            sys.exit("the run failed")
    steps = np.diff(table[10:_STEPS, -1])  # without the first ones, in which memory is taken
    spent = table[10 : _STEPS - 1, :-1]
    print(f"{ranks} processes, median of {len(steps)} steps: {1e3 * np.median(steps):.1f} ms a step")
    for (kind, name), column in zip(MACHINERY, spent.T, strict=True):
        print(f"  {kind.__name__ + '.' + name:36s} {1e3 * np.median(column):.3f} ms")
    together = np.median(spent.sum(1))
    print(f"  together {1e3 * together:.3f} ms: {100 * together / np.median(steps):.2f} % of a step")


def start_of_a_run(repeat: int, arguments: list[str]) -> None:
    """Prints seconds from the start of a process that goes on to its first new step, and of the import alone."""
    imports, starts = [], []
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "pretrain", "experiment=mlm_tiny", f"run_dir={run_dir}", "log_every_n_steps=1"]
        command += ["trainer.accelerator=cpu", "checkpoint.every_n_steps=5", *arguments]
        for number in range(repeat + 1):
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", "import pretrain.train"], check=True)
            imported = time.monotonic() - began
            reached = max(steps_of(run_dir), default=0)
            began = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while max(steps_of(run_dir), default=0) <= reached and process.poll() is None:
                time.sleep(0.005)
            started = time.monotonic() - began
            time.sleep(1)
            process.terminate()
            process.wait()
            if number:  # the first one begins the run
                imports.append(imported)
                starts.append(started)
                print(f"import {imported:.2f} s, process start to the first step after {reached}: {started:.2f} s")
    more = statistics.median(starts) - statistics.median(imports)
    print(
        f"medians of {repeat}: {statistics.median(imports):.2f} s, {statistics.median(starts):.2f} s: {more:.2f} s more"
    )


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("override", nargs="*", help="KEY=VALUE of the run")
    given = parser.parse_args()
    if given.start:
        start_of_a_run(given.repeat, given.override)
    else:
        share_of_a_step(given.ranks, given.override)


if __name__ == "__main__":
    main()
