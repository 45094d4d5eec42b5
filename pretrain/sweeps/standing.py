"""How a sweep's trials stand: by their run directories, and by Slurm's queue. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pretrain.ending import DONE, FAILED, INTERRUPTED
from pretrain.launchers.frozen import FOLDER
from pretrain.launchers.options import SLURM
from pretrain.launchers.slurm import SCRIPT, Job, jobs_of, settled_jobs
from pretrain.redaction import redact
from pretrain.runs.search import is_run
from pretrain.runs.summary import RUNNING, UNKNOWN, Summary, max_steps_of, summarise
from pretrain.sweeps.record import PRUNED_FILE, Sweep, Trial

WAITING, QUEUED, PRUNED = "waiting", "queued", "pruned"
STATES = (WAITING, QUEUED, RUNNING, INTERRUPTED, DONE, PRUNED, FAILED, UNKNOWN)
UNDER_WAY = (QUEUED, RUNNING, UNKNOWN)
_LONGEST = 300
_NOT_YET = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")


@dataclass(frozen=True)
class Standing:
    """One trial.

    Attributes:
        trial: which one.
        state: one of :data:`STATES`.
        cause: why it failed, was interrupted or waits, where that is known; "" otherwise.
        run: what its directory says; None before it was first started.
        job: Slurm's number of it, "" if it is not in the queue.
    """

    trial: Trial
    state: str
    cause: str
    run: Summary | None
    job: str

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        about = {"number": self.trial.number, "folder": self.trial.folder, "overrides": self.trial.overrides}
        about |= {"state": self.state, "cause": self.cause, "job": self.job}
        return about | {"run": self.run.as_json() if self.run is not None else None}


def standings(sweep: Sweep, queue: bool = True, settled: bool = False) -> list[Standing]:
    """How each trial stands, in the order of their numbers.

    Args:
        sweep: whose.
        queue: ask Slurm as well, where it is a sweep for Slurm.
        settled: wait a minute for jobs that are ending; see :func:`pretrain.launchers.slurm.settled_jobs`.

    Raises:
        InputError: it is a sweep for Slurm, and this host has none.
        RunError: Slurm does not answer.
    """
    jobs: dict[int | None, Job] = {}
    if queue and sweep.launcher == SLURM and sweep.job["launcher"]["start"]:
        ask = settled_jobs if settled else jobs_of
        jobs = {job.element: job for job in ask(sweep.path / FOLDER / SCRIPT)}
    return [_standing(sweep, trial, jobs.get(trial.number)) for trial in sweep.trials]


def _standing(sweep: Sweep, trial: Trial, job: Job | None) -> Standing:
    folder = sweep.folder(trial)
    run = summarise(folder) if is_run(folder) else None
    state, cause = (run.state, run.cause) if run is not None else (WAITING, _last_line(sweep, trial))
    if state == DONE and run is not None and run.step < max_steps_of(folder / FOLDER):
        state, cause = INTERRUPTED, "more steps are wanted now"
    if state == INTERRUPTED and (folder / FOLDER / PRUNED_FILE).exists():
        state, cause = PRUNED, ""
    if job is not None and state != RUNNING:
        state, cause = (QUEUED, job.reason) if job.state in _NOT_YET else (RUNNING, "")
    return Standing(trial, state, cause, run, job.name if job is not None else "")


def _last_line(sweep: Sweep, trial: Trial) -> str:
    """What a job of Slurm printed last that never came so far as to leave a run directory; "" if there was none."""
    outputs = list((sweep.path / FOLDER).glob(f"*_{trial.number}.out"))
    if not outputs:
        return ""
    lines = max(outputs, key=lambda path: path.stat().st_mtime).read_text(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"a job has ended before it began; its last words: {redact(said[:_LONGEST])}"


def counted(found: Iterable[Standing]) -> str:
    """``6 trials: 1 queued, 5 finished``."""
    states = [one.state for one in found]
    words = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    return f"{len(states)} trials: {words or 'none'}"
