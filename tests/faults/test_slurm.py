"""A real Slurm: a job of two tasks is warned of its time limit, preempted and requeued, and comes to the same end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.campaign import newest_step, steps_of
from tests.faults.cluster import state, until
from tests.faults.recipes import recipe
from tests.integration.runs import outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("cluster")]

STEPS = 1500
COMMAND = [*recipe("mlm_tiny"), "evaluate.every_n_steps=100000", "checkpoint.every_n_steps=500"]
COMMAND += [
    "log_every_n_steps=10",
    "ledger=false",
    "loader.workers=0",
    "trainer.devices=2",
    "interruption.silence_s=10",
]


def submit(folder: Path, name: str, *options: str, steps: int = STEPS) -> str:
    """Submits the run; the job's number."""
    script = folder / f"{name}.sh"
    command = " ".join(f"'{a}'" for a in ["-m", "pretrain", *COMMAND, f"max_steps={steps}", f"run_dir={folder / name}"])
    root = Path(__file__).resolve().parents[2]
    script.write_text(
        f"#!/bin/bash\ncd {root}\nexport OMP_NUM_THREADS=1\nexec srun --kill-on-bad-exit=1 {sys.executable} {command}\n"
    )
    fixed = ["--ntasks=2", "--requeue", "--open-mode=append", f"--output={folder / name}.out", "--partition=main"]
    done = subprocess.run(
        ["sbatch", "--parsable", *fixed, *options, str(script)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().split(";")[0]


def running_at(folder: Path, name: str, step: int) -> None:
    until(lambda: max(steps_of(folder / name), default=0) >= step)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, cache_folder: str) -> tuple[object, float]:
    """The outcome of the job that nobody disturbs, and its steps a second."""
    os.environ["PRETRAIN_CACHE"] = cache_folder
    folder = tmp_path_factory.mktemp("twin")
    began = time.monotonic()
    ended(folder, submit(folder, "run"))
    return outcome(folder / "run"), STEPS / (time.monotonic() - began)


@pytest.fixture(scope="module")
def twin(straight: tuple[object, float]) -> object:
    return straight[0]


def ended(folder: Path, job: str, steps: int = STEPS) -> str:
    """Waits for the job to come to its end; its output."""
    until(lambda: state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
    output = (folder / "run.out").read_text()
    assert state(job) == "COMPLETED", output[-3000:]
    assert newest_step(folder / "run") == steps
    return output


def finished(folder: Path, job: str, twin: object) -> str:
    """Waits for the job's end, which must be that of its twin; its output."""
    output = ended(folder, job)
    assert outcome(folder / "run") == twin
    return output


def test_a_warning_before_the_time_limit_requeues_the_job(tmp_path: Path, twin: object) -> None:
    job = submit(tmp_path, "run")
    running_at(tmp_path, "run", 100)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)  # what --signal=USR1@300 sends
    output = finished(tmp_path, job, twin)
    assert output.count(f"job {job} is put back into the queue") == 1
    saved = re.search(r"stopped by SIGUSR1 after step (\d+)", output)
    assert saved
    assert f"going on from step {saved[1]} of" in output


def test_a_preempted_job_goes_on_where_it_was(tmp_path: Path, twin: object) -> None:
    job = submit(tmp_path, "run")
    running_at(tmp_path, "run", 100)
    wrap = [
        "sbatch",
        "--parsable",
        "--partition=urgent",
        "--nodes=2",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=sleep 3",
    ]
    subprocess.run(wrap, check=True, capture_output=True)
    output = finished(tmp_path, job, twin)
    saved = re.search(r"stopped by SIGTERM after step (\d+)", output)
    assert saved
    assert f"going on from step {saved[1]} of" in output


def test_a_finished_job_that_is_started_again_ends_at_once(tmp_path: Path, twin: object) -> None:
    job = submit(tmp_path, "run")
    finished(tmp_path, job, twin)
    subprocess.run(["scontrol", "requeue", job], check=True)
    until(lambda: state(job) != "COMPLETED", 30)
    output = finished(tmp_path, job, twin)
    assert "nothing left to do" in output


def test_a_cancelled_job_stays_cancelled(tmp_path: Path) -> None:
    job = submit(tmp_path, "run")
    running_at(tmp_path, "run", 100)
    subprocess.run(["scancel", job], check=True)
    until(lambda: state(job) == "CANCELLED")
    time.sleep(3)
    assert state(job) == "CANCELLED"
    assert "put back" not in (tmp_path / "run.out").read_text()


def test_a_time_limit_is_no_end(tmp_path: Path, straight: tuple[object, float]) -> None:
    """Slurm itself warns, one or two minutes after the start (its clock is coarse), as often as the run needs."""
    steps = int(60 * straight[1])
    saved: list[str] = []
    while not saved:  # a machine with more to give than when it was measured is through before the limit
        steps *= 2
        limited, whole = (tmp_path / f"{name}{steps}" for name in ("limited", "whole"))
        limited.mkdir()
        output = ended(limited, submit(limited, "run", "--time=3", "--signal=USR1@30", steps=steps), steps)
        saved = re.findall(r"stopped by SIGUSR1 after step (\d+)", output)
    whole.mkdir()
    ended(whole, submit(whole, "run", steps=steps), steps)
    for step in saved:
        assert f"going on from step {step} of" in output
    assert outcome(limited / "run") == outcome(whole / "run")
