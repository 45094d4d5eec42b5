"""A job that is told that its time is over asks once to be started again; one that is cancelled does not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.ranks import start_together
from tests.integration.runs import SMALL, steps, wait

SHOW = "show job --oneliner 12"
RUNNING, CANCELLED = "JobState=RUNNING PreemptTime=None", "JobState=COMPLETING PreemptTime=None"
PREEMPTED = "JobState=RUNNING PreemptTime=2026-11-21T19:14:09"


@pytest.mark.parametrize(
    ("number", "ranks", "said", "more", "asked"),
    [
        (signal.SIGUSR1, 1, RUNNING, (), ["requeue 12"]),  # what `sbatch --signal` sends ahead of the time limit
        (signal.SIGUSR1, 2, RUNNING, (), ["requeue 12"]),
        (signal.SIGTERM, 1, CANCELLED, (), [SHOW]),
        (signal.SIGTERM, 2, CANCELLED, (), [SHOW]),
        (signal.SIGTERM, 2, PREEMPTED, (), [SHOW, "requeue 12"]),
        (signal.SIGUSR1, 1, RUNNING, ("interruption.requeue=false",), []),
    ],
)
def test_the_scheduler_is_asked_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    ranks: int,
    said: str,
    more: tuple[str, ...],
    asked: list[str],
) -> None:
    program, run_dir = tmp_path / "scontrol", tmp_path / "run"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "{said}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    pids = start_together(ranks, [*SMALL, "max_steps=1000", "evaluate.every_n_steps=1000", f"run_dir={run_dir}", *more])
    while not (run_dir / "metrics.jsonl").exists() or not steps(run_dir):
        time.sleep(0.01)
    os.kill(pids[-1], number)
    assert [wait(pid) for pid in pids] == [143] * ranks
    file = tmp_path / "asked"
    assert (file.read_text().splitlines() if file.exists() else []) == asked
