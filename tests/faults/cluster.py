"""A real Slurm for tests.

It is one that ``SLURM_CONF`` names, or that the command in ``PRETRAIN_SLURM_UP`` starts in a directory it is given (and
prints ``export SLURM_CONF=...``), with a partition ``urgent`` that preempts ``main``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import processes


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Slurm's programs answer; skips where they cannot."""
    before, up = os.environ.get("SLURM_CONF"), os.environ.get("PRETRAIN_SLURM_UP")
    if before is None and up is not None:
        told = subprocess.run([*up.split(), str(folder)], capture_output=True, text=True, timeout=300, check=False)
        found = re.search(r"SLURM_CONF=(\S+)", told.stdout)
        if found:
            os.environ["SLURM_CONF"] = found[1]
    if not shutil.which("sbatch") or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no Slurm: give SLURM_CONF, or PRETRAIN_SLURM_UP='slurm-up --install -n 2 -c 4'")
    yield
    if before is None and up is not None:
        down = Path(up.split()[0]).with_name("slurm-down")
        if down.exists():
            subprocess.run([str(down), str(folder)], check=False, capture_output=True, timeout=60)
        os.environ.pop("SLURM_CONF", None)


def state(job: str) -> str:
    """Of a job, in Slurm's words."""
    told = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=False).stdout
    found = re.search(r"JobState=(\w+)", told)
    return found[1] if found else "gone"


def until(condition: Callable[[], bool], seconds: float = 480) -> None:
    """Waits for ``condition``, as long as a job may stand in line."""
    processes.until(condition, seconds, every=0.1)
