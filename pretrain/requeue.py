"""Asks the scheduler to start a job again that it has told to end."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from collections.abc import Mapping

log = logging.getLogger("pretrain")

_SECONDS = 60.0


def job_of(environment: Mapping[str, str]) -> str | None:
    """The Slurm job that this process belongs to, of an array with its number in it; None outside of Slurm."""
    job = environment.get("SLURM_JOB_ID", "")
    array, number = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if array and number:
        job = f"{array}_{number}"
    return job if re.fullmatch(r"\d+(_\d+)?", job) else None


def ask_for_more(number: int, warned: bool) -> None:
    """Lets the job be started again that a signal has ended, if it was not cancelled.

    Args:
        number: of the signal.
        warned: whether one came that a scheduler sends ahead of the end of a job's time.
    """
    if warned or (number == signal.SIGTERM and preempted()):
        requeue()


def requeue(environment: Mapping[str, str] = os.environ) -> bool:
    """Puts this process's job back into Slurm's queue; says in the log how it went. False where there is no job."""
    job = job_of(environment)
    if job is None:
        return False
    _, trouble = _scontrol("requeue", job)
    if trouble is not None:
        log.warning("job %s is not put back into the queue: %s", job, trouble)
        return False
    log.info("job %s is put back into the queue", job)
    return True


def preempted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Slurm has given this process's job a last moment, to take its place for another.

    It says so by the same SIGTERM as ``scancel``. Whoever then ends by itself has failed, to Slurm; whoever is still
    there when the moment is over is put back into the queue. So a job that ends in time must ask for that itself.
    """
    job = job_of(environment)
    if job is None:
        return False
    told, trouble = _scontrol("show", "job", "--oneliner", job)
    if trouble is not None:
        log.warning("whether job %s was preempted is not known: %s", job, trouble)
        return False
    facts = dict(part.split("=", 1) for part in told.split() if "=" in part)
    return facts.get("JobState") == "RUNNING" and facts.get("PreemptTime", "None")[:1].isdigit()


def _scontrol(*arguments: str) -> tuple[str, str | None]:
    """What it prints, and what went wrong."""
    try:
        done = subprocess.run(["scontrol", *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"scontrol {error}"
    return done.stdout, done.stderr.strip() if done.returncode else None
