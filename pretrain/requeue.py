"""Asks the scheduler to start a job again that it has told to end."""

from __future__ import annotations

import logging
import os
import re
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


def requeue(environment: Mapping[str, str] = os.environ) -> bool:
    """Puts this process's job back into Slurm's queue; says in the log how it went. False where there is no job."""
    job = job_of(environment)
    if job is None:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("job %s is not put back into the queue: scontrol %s", job, error)
        return False
    if done.returncode:
        log.warning("job %s is not put back into the queue: %s", job, done.stderr.strip())
        return False
    log.info("job %s is put back into the queue", job)
    return True
