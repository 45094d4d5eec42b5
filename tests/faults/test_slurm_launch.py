"""A real Slurm, by way of ``launcher=slurm``: one run on two nodes, and a sweep that loses its submitter and jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.launchers.slurm import jobs_of
from pretrain.runs.holder import holder
from tests.faults.campaign import newest_step, steps_of
from tests.faults.cluster import state, until
from tests.faults.recipes import recipe
from tests.integration.runs import outcome, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("cluster")]

STEPS = 1500
COMMAND = [*recipe("mlm_tiny"), "evaluate.every_n_steps=100000", "checkpoint.every_n_steps=100", "ledger=false"]
COMMAND += ["loader.workers=0", "interruption.silence_s=10", "report.enabled=false", f"max_steps={STEPS}"]
PRETRAIN = [sys.executable, "-m", "pretrain"]


def pretrain(*arguments: str) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run([*PRETRAIN, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def standings(sweep: Path) -> dict[int, str]:
    """Trial -> state."""
    return {
        one["number"]: one["state"] for one in json.loads(pretrain("sweep", "status", str(sweep), "--json"))["trials"]
    }


def all_once(folder: Path) -> bool:
    return steps_of(folder) == list(range(1, STEPS + 1))


def test_a_run_on_two_nodes_is_warned_and_goes_on_by_its_frozen_config(tmp_path: Path) -> None:
    own, run_dir = tmp_path / "own/experiment", tmp_path / "with blanks and 100%" / "run"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\ndefaults:\n  - mlm_tiny\n  - _self_\nname: mine\n")
    command = ["--config-dir", str(own.parent), *COMMAND, "experiment=mine", "launcher=slurm", f"run_dir='{run_dir}'"]
    command += ["trainer.num_nodes=2", "launcher.setup=['export OMP_NUM_THREADS=1']"]
    job = re.findall(r"job (\d+) is submitted", pretrain(*command))[0]
    (own / "mine.yaml").write_text("no config any more\n")
    assert f"job {job} is " in pretrain(*[one for one in command if one != "experiment=mine"])
    until(lambda: max(steps_of(run_dir), default=0) >= 100)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)  # what --signal=USR1@300 sends
    until(lambda: state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
    output = (run_dir / f"launch/{job}.out").read_text()
    assert state(job) == "COMPLETED", output[-3000:]
    assert f"job {job} is put back into the queue" in output
    assert newest_step(run_dir) == STEPS
    assert all_once(run_dir)
    starts = [json.loads(line) for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert [row["job"] for row in starts] == [job, job]
    assert json.loads((run_dir / "launch/submitted.jsonl").read_text())["job"] == job


def test_a_job_that_was_cancelled_is_followed_by_another_at_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = [*COMMAND, "launcher=slurm", "launcher.setup=['export OMP_NUM_THREADS=1']", f"run_dir={run_dir}"]
    job = re.findall(r"job (\d+) is submitted", pretrain(*command))[0]
    until(lambda: max(steps_of(run_dir), default=0) >= 100)
    os.kill(holder(run_dir).pid, signal.SIGSTOP)  # it takes its time to save
    subprocess.run(["scancel", job], check=True)
    until(lambda: [one.state for one in jobs_of(run_dir / "launch/job.sh")] == ["COMPLETING"])
    again = re.findall(r"job (\d+) is submitted", pretrain(*command))[0]
    assert again != job
    until(lambda: state(again) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
    assert state(again) == "COMPLETED"
    assert all_once(run_dir)


def test_a_sweep_survives_its_submitter_killed_jobs_and_a_drained_node(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    script = sweep / "launch/job.sh"
    command = [*PRETRAIN, "-m", *COMMAND, "seed=0,1", "optimizer.lr=1e-3,2e-3,3e-3", "launcher=slurm"]
    command += ["launcher.setup=['export OMP_NUM_THREADS=1']", f"run_dir={sweep}"]
    submitter = subprocess.Popen(command)
    until(lambda: bool(jobs_of(script)), 60)
    submitter.kill()
    submitter.wait()
    assert len(jobs_of(script)) == 6

    folders = {n: sweep / f"seed={n // 3},optimizer.lr=0.00{n % 3 + 1}" for n in range(6)}
    until(lambda: sum(max(steps_of(folder), default=0) >= 100 for folder in folders.values()) >= 2)
    first, second = [n for n, folder in folders.items() if max(steps_of(folder), default=0) >= 100][:2]
    subprocess.run(["scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test"], check=True)
    try:
        subprocess.run(["scancel", next(job.name for job in jobs_of(script) if job.element == first)], check=True)
        found = holder(folders[second])
        assert found.active
        os.kill(found.pid, signal.SIGKILL)
        until(lambda: len(jobs_of(script)) < 4)
        subprocess.run(["scontrol", "update", "NodeName=n2", "State=RESUME"], check=True)
        until(lambda: not jobs_of(script))
    finally:
        subprocess.run(["scontrol", "update", "NodeName=n2", "State=RESUME"], check=False)
    assert standings(sweep) == {n: "interrupted" if n in (first, second) else "finished" for n in folders}

    assert "an array of 2 trials" in pretrain("sweep", "resume", str(sweep))
    assert "nothing to start" in pretrain("sweep", "resume", str(sweep))  # they are in the queue
    until(lambda: not jobs_of(script))
    assert set(standings(sweep).values()) == {"finished"}
    assert all(all_once(folder) for folder in folders.values())
    for number in (first, second):
        config = str(folders[number] / "launch/config.yaml")
        assert run(["--config", config, f"run_dir={tmp_path / str(number)}"]) == 0
        assert outcome(folders[number]) == outcome(tmp_path / str(number))


def test_devices_that_no_node_has_are_refused_with_what_decides_them(tmp_path: Path) -> None:
    command = [*PRETRAIN, *COMMAND, "launcher=slurm", "launcher.gpus_per_node=4", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Invalid generic resource" in line
    assert "launcher.gpus_per_node=N" in line


def test_a_job_that_ends_before_its_run_begins_says_why(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    setup = "launcher.setup=['echo no such module; exit 3']"
    pretrain("-m", *COMMAND, "seed=0,1", "launcher=slurm", "launcher.at_once=1", setup, f"run_dir={sweep}")
    until(lambda: not jobs_of(sweep / "launch/job.sh"))
    found = json.loads(pretrain("sweep", "status", str(sweep), "--json"))["trials"]
    assert [one["state"] for one in found] == ["waiting", "waiting"]
    assert all(one["cause"].endswith("its last words: no such module") for one in found)


def test_an_optimizer_chooses_as_trials_begin_and_again_the_same_after_a_requeue(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    script = sweep / "launch/job.sh"
    space = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "sweeper=optuna", "sweeper.metric=mlm/prose/loss"]
    limits = ["sweeper.trials=3", "launcher.at_once=2", "launcher.setup=['export OMP_NUM_THREADS=1']"]
    told = pretrain("-m", *COMMAND, *space, *limits, "sweeper.prune=true", "launcher=slurm", f"run_dir={sweep}")
    assert "an array of 3 trials" in told
    first = sweep / "trial-0000"
    until(lambda: max(steps_of(first), default=0) >= 100)
    chosen = (first / "launch/chosen.json").read_text()
    job = next(job.name for job in jobs_of(script) if job.element == 0)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)  # the time limit is near
    until(lambda: not jobs_of(script))
    assert standings(sweep) == dict.fromkeys(range(3), "finished")
    assert (first / "launch/chosen.json").read_text() == chosen
    assert len((first / "starts.jsonl").read_text().splitlines()) == 2
    assert all(all_once(sweep / f"trial-000{number}") for number in range(3))
    best = json.loads(pretrain("sweep", "best", str(sweep), "--json"))
    assert best["metric"] == "mlm/prose/loss"
    assert len(best["trials"]) == 3
