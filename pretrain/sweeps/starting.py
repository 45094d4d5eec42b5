"""Starts trials of a sweep: here, one after the other, or as one array job of Slurm."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from pretrain.launch import PRETRAIN
from pretrain.launchers import slurm
from pretrain.launchers.frozen import CONFIG, FOLDER, command, put, record, settle
from pretrain.launchers.options import SLURM
from pretrain.runs.holder import holder
from pretrain.signals import EXIT_INPUT, SIGNALS, exit_code
from pretrain.sweeps.record import Sweep, Trial
from pretrain.sweeps.running import run
from pretrain.sweeps.search import UnfitError

_LOOK_S = 0.5
_TRIALS = "trials.txt"


def start(sweep: Sweep, trials: Sequence[Trial]) -> int:
    """Starts ``trials``, none of which is under way; the exit code.

    Raises:
        InputError: the folder that the configs' paths begin in is gone, or Slurm does not take the job.
        Stopped: a signal came before the first one.
    """
    if not Path(sweep.home).is_dir():
        raise InputError(f"the sweep was made in '{sweep.home}', where its paths begin, and that is no folder any more")
    if not trials:
        print(f"nothing to start in '{sweep.path}'")
        return 0
    for trial in trials:
        settle(sweep.folder(trial))
    return (_submit if sweep.launcher == SLURM else _one_by_one)(sweep, trials)


def _submit(sweep: Sweep, trials: Sequence[Trial]) -> int:
    folder = sweep.path / FOLDER
    put(folder / _TRIALS, "".join(f"{sweep.folder(trial)}\n" for trial in sweep.trials))
    path, one = folder / slurm.SCRIPT, f"$trial/{FOLDER}/{CONFIG}"
    words = [f'"{word}"' if word == one else shlex.quote(word) for word in command(one, sweep.trust)]
    before = [f'trial=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(folder / _TRIALS))})']
    around = []
    if sweep.search:  # what chooses the values, when the trial's turn comes, and watches it
        around = [*map(shlex.quote, [*PRETRAIN, "sweep", "trial", str(sweep.path)]), "$SLURM_ARRAY_TASK_ID", "--"]
    elements = ranges([trial.number for trial in trials])
    text = slurm.script(sweep.job, folder, words, Path(sweep.home), before, around, elements)
    put(path, text, mode=0o755)
    if not sweep.job["launcher"]["start"]:
        print(f"written, not submitted: {path}")
        return 0
    job = slurm.submit(path)
    place = shlex.quote(str(sweep.path))
    print(f"job {job} is submitted, an array of {len(trials)} trials; pretrain sweep status {place}")
    record(folder, launcher=SLURM, job=job, trials=elements)
    return 0


def ranges(numbers: Sequence[int]) -> str:
    """``0-2,5`` of 0, 1, 2, 5: as sbatch takes the elements of an array."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def _one_by_one(sweep: Sweep, trials: Sequence[Trial]) -> int:
    """One that fails does not keep the others from running; a signal ends them all. The worst exit code."""
    worst = 0
    for count, trial in enumerate(trials, start=1):
        SIGNALS.check()
        folder = sweep.folder(trial)
        print(f"[{count}/{len(trials)}] {folder}", file=sys.stderr, flush=True)
        _wait_for(folder)
        try:
            code, stopped = run(sweep, trial, command(str(folder / FOLDER / CONFIG), sweep.trust))
        except UnfitError as error:
            print(f"pretrain: error: {error}", file=sys.stderr, flush=True)
            code, stopped = EXIT_INPUT, 0
        if stopped:
            return exit_code(stopped)
        worst = max(worst, code if code >= 0 else 1)
    return worst


def _wait_for(folder: Path) -> None:
    """Waits for who works in a run directory: a trial whose sweep was killed saves before it ends."""
    found = holder(folder)
    if found.active:
        print(f"waiting for process {found.pid} on {found.host}, which is at work in it", file=sys.stderr, flush=True)
    while holder(folder).active:
        SIGNALS.check()
        time.sleep(_LOOK_S)
