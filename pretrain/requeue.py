"""Asks the scheduler to start a job again that it has told to end."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping

log = logging.getLogger("pretrain")

_SECONDS = 60.0
_PAUSE_S = 1.0  # before a question is repeated, and then twice as long each time


def job_of(environment: Mapping[str, str]) -> str | None:
    """The Slurm job that this process belongs to, of an array with its number in it; None outside of Slurm."""
    job = environment.get("SLURM_JOB_ID", "")
    array, number = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if array and number:
        job = f"{array}_{number}"
    return job if re.fullmatch(r"\d+(_\d+)?", job) else None


def ask_for_more(number: int, warned: bool, within_s: float = _SECONDS) -> None:
    """Lets the job be started again that a signal has ended, if it was not cancelled.

    Args:
        number: of the signal.
        warned: whether one came that a scheduler sends ahead of the end of a job's time.
        within_s: how long it may take; a minute at most.
    """
    end = time.monotonic() + min(within_s, _SECONDS)
    if warned or (number == signal.SIGTERM and preempted(end=end)):
        requeue(end=end)


def requeue(environment: Mapping[str, str] = os.environ, end: float | None = None) -> bool:
    """Puts this process's job back into Slurm's queue; says in the log how it went. False where there is no job.

    Args:
        environment: of this process.
        end: when to give it up; None: in a minute.
    """
    job = job_of(environment)
    if job is None:
        return False
    _, trouble = _scontrol(end, "requeue", job)
    if trouble is not None:
        log.warning("job %s is not put back into the queue: %s", job, trouble)
        return False
    log.info("job %s is put back into the queue", job)
    return True


def preempted(environment: Mapping[str, str] = os.environ, end: float | None = None) -> bool:
    """Whether Slurm has given this process's job a last moment, to take its place for another.

    It says so by the same SIGTERM as ``scancel``. Whoever then ends by itself has failed, to Slurm; whoever is still
    there when the moment is over is put back into the queue. So a job that ends in time must ask for that itself.
    Arguments as of :func:`requeue`.
    """
    job = job_of(environment)
    if job is None:
        return False
    told, trouble = _scontrol(end, "show", "job", "--oneliner", job)
    if trouble is not None:
        log.warning("whether job %s was preempted is not known: %s", job, trouble)
        return False
    facts = dict(part.split("=", 1) for part in told.split() if "=" in part)
    return facts.get("JobState") == "RUNNING" and facts.get("PreemptTime", "None")[:1].isdigit()


def _scontrol(end: float | None, *arguments: str) -> tuple[str, str | None]:
    """What it prints, and what went wrong; a controller that is away or busy is asked again until ``end``."""
    pause, command = _PAUSE_S, ["scontrol", *arguments]
    end = time.monotonic() + _SECONDS if end is None else end
    while True:
        left = max(end - time.monotonic(), _PAUSE_S)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return "", f"scontrol {error}"
        if not done.returncode:
            return done.stdout, None
        trouble = done.stderr.strip() or f"scontrol has exit code {done.returncode}"
        if time.monotonic() + pause >= end:
            return done.stdout, trouble
        if pause == _PAUSE_S:
            log.warning("scontrol: %s; it is asked again for %.0f s", trouble, end - time.monotonic())
        time.sleep(pause)
        pause *= 2
