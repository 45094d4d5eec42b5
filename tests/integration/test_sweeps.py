"""Sweeps on this host: a trial that fails, a sweep that is killed, and what `pretrain sweep` makes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pretrain.cli import main
from tests.integration.runs import TEXT, outcome, run, start, steps, wait

GRID = ["-m", *TEXT, "report.enabled=false"]


def standing(sweep: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["sweep", "status", str(sweep), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["trials"]
    return found


def test_a_trial_that_fails_does_not_end_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, away = tmp_path / "sweep", tmp_path / "away"
    command = [*GRID, f"run_dir={sweep}", f"init_from='{away}',null", "checkpoint.keep_best.metric=mlm/prose/loss"]
    assert run(command) == 2
    failed, done = standing(sweep, capsys)
    assert (failed["state"], done["state"]) == ("failed", "finished")
    assert str(away) in failed["cause"]
    assert main(["sweep", "best", str(sweep), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)
    assert [one["number"] for one in best["trials"]] == [1]
    assert (
        best["trials"][0]["value"]
        == json.loads((sweep / "init_from=null/results.json").read_text())["metrics"]["mlm/prose/loss"]["value"]
    )
    os.rename(sweep / "init_from=null", away)  # the cause is mended
    death = {"step": 1, "behind": False, "cause": "killed", "weight": 1.0}
    (sweep / failed["folder"] / "deaths.json").write_text(json.dumps([death] * 3))  # which would be too many
    assert run(["sweep", "retry", str(sweep)]) == 0
    assert [one["state"] for one in standing(sweep, capsys)] == ["finished", "waiting"]


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    command = [*GRID, f"run_dir={sweep}", "seed=0,1", "max_steps=300", "checkpoint.every_n_steps=50"]
    pid = start(command)
    first, second = sweep / "seed=0", sweep / "seed=1"
    while not (first / "metrics.jsonl").exists() or len(steps(first)) < 60:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    assert run(command) == 0  # waits for the orphan to save, and goes on
    assert len((first / "starts.jsonl").read_text().splitlines()) == 2
    assert not any(len(steps(folder)) != 300 for folder in (first, second))
    assert steps(first) == list(range(1, 301))
    config = str(first / "launch/config.yaml")
    assert run(["--config", config, f"run_dir={tmp_path / 'alone'}"]) == 0
    assert outcome(first) == outcome(tmp_path / "alone")


@pytest.mark.slow
def test_a_signal_ends_the_sweep_and_resume_continues_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    pid = start([*GRID, f"run_dir={sweep}", "seed=0,1", "max_steps=300"])
    first = sweep / "seed=0"
    while not (first / "metrics.jsonl").exists() or len(steps(first)) < 5:
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert wait(pid) == 143
    assert [one["state"] for one in standing(sweep, capsys)] == ["interrupted", "waiting"]
    copy = tmp_path / "copy"
    shutil.copytree(sweep, copy)
    assert run(["sweep", "resume", str(copy)]) == 0
    assert all(steps(copy / f"seed={seed}") == list(range(1, 301)) for seed in (0, 1))
    assert len((copy / "seed=0/starts.jsonl").read_text().splitlines()) == 2
    assert [one["state"] for one in standing(sweep, capsys)] == ["interrupted", "waiting"]  # the original is left alone
    assert run(["sweep", "resume", str(sweep)]) == 0
    assert [one["state"] for one in standing(sweep, capsys)] == ["finished", "finished"]
    assert all(steps(sweep / f"seed={seed}") == list(range(1, 301)) for seed in (0, 1))


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_what_has_no_prospects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    command = [*GRID, f"run_dir={sweep}", "max_steps=120", "evaluate.every_n_steps=20", "sweeper=optuna"]
    command += ["sweeper.trials=5", "sweeper.metric=mlm/prose/loss", "optimizer.lr=tag(log,interval(1e-6,1e-1))"]
    command += ["sweeper.prune=true", "sweeper.prune_after_trials=2"]
    pid = start(command)
    second = sweep / "trial-0001"
    while not (second / "metrics.jsonl").exists() or len(steps(second)) < 30:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    chosen = [json.loads((sweep / f"trial-000{n}/launch/chosen.json").read_text())["params"] for n in (0, 1)]
    assert run(command) == 0
    found = standing(sweep, capsys)
    assert [one["state"] for one in found[:2]] == ["finished", "finished"]
    assert {one["state"] for one in found} <= {"finished", "pruned"}
    params = [json.loads((sweep / one["folder"] / "launch/chosen.json").read_text())["params"] for one in found]
    assert params[:2] == chosen
    assert len({one["optimizer.lr"] for one in params}) == 5
    for one in found:
        done = steps(sweep / one["folder"])
        assert done == list(range(1, len(done) + 1))
        assert len(done) == 120 or one["state"] == "pruned"
    assert main(["sweep", "best", str(sweep), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["trials"]
    assert [one["value"] for one in best] == sorted(one["value"] for one in best)
    assert run(command) == 0  # nothing is left to do, not for a pruned one either
    assert [one["state"] for one in standing(sweep, capsys)] == [one["state"] for one in found]
