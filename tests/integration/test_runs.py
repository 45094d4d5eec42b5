"""What `pretrain runs` says of real runs: stopped, killed, failed, finished."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pretrain.cli import main
from pretrain.runs.summary import summarise
from tests.integration.runs import SMALL, TEXT, kill_at, run, start, steps, wait
from tests.processes import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was killed, stopped by the verb, tried with a wrong config, and brought to its end."""
    root = tmp_path_factory.mktemp("runs")
    command, seen = [*SMALL, f"run_dir={root}/a"], {}
    assert kill_at(command, root / "a", 4)
    seen["killed"] = summarise(root / "a")
    process = start([*command, "max_steps=100000"])
    while len(rows := steps(root / "a")) < 7 and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.01)
    assert len(rows) >= 7
    seen["running"] = summarise(root / "a")
    assert (main(["runs", "stop", f"{root}/a"]), wait(process)) == (0, 143)
    seen["stopped"] = summarise(root / "a")
    assert run([*command, "max_steps=100000", "seed=3"]) == 2
    seen["failed"] = summarise(root / "a")
    last = seen["stopped"].step + 5
    assert run([*command, f"max_steps={last}"]) == 0
    seen["finished"] = summarise(root / "a")
    assert run([*SMALL, f"run_dir={root}/b", "max_steps=6", "seed=1"]) == 0
    return root, seen


def test_each_state_with_its_cause(folder):
    _, seen = folder
    states = {name: one.state for name, one in seen.items()}
    assert states == {
        "killed": "interrupted",
        "running": "running",
        "stopped": "interrupted",
        "failed": "failed",
        "finished": "finished",
    }
    assert "killed" in seen["killed"].cause
    assert seen["stopped"].cause == f"stopped by SIGTERM after step {seen['stopped'].step}"
    assert seen["failed"].cause.startswith("seed was 0 and is 3 now")
    assert seen["finished"].cause == ""
    assert seen["finished"].seconds_left is None
    assert seen["running"].seconds_left > 0
    assert seen["stopped"].checkpoint == seen["stopped"].step


def test_goodput_is_the_share_of_time_at_work_that_counts(folder):
    root, seen = folder
    found = seen["finished"]
    rows = [json.loads(line) for line in (root / "a/starts.jsonl").read_text().splitlines()]
    assert found.starts == len(rows) == 3
    between = rows[1]["began"] - rows[1]["previous_end"]
    assert 0 <= between < 60
    kept = sum(json.loads(line)["seconds"] for line in (root / "a/speed.jsonl").read_text().splitlines())
    assert found.goodput == pytest.approx(kept / found.at_work_s)
    assert 0 < found.goodput < 1


def test_the_list_names_both_and_filters(folder, capsys):
    root, _ = folder
    assert main(["runs", "list", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [os.path.basename(run["path"]) for run in found] == ["b", "a"]
    assert main(["runs", "list", str(root), "--state", "failed,running"]) == 0
    assert "0 runs" in capsys.readouterr().out
    assert main(["runs", "list", str(root), "--state", "lost"]) == 2
    assert "'lost' is none of running, " in capsys.readouterr().err


def test_show_says_how_it_went(folder, capsys):
    root, _ = folder
    assert main(["runs", "show", f"{root}/a"]) == 0
    out = capsys.readouterr().out
    assert out.count("started ") == 3
    assert "goodput" in out
    assert "held out" in out


def test_tail_shows_the_last_steps(folder, capsys):
    root, seen = folder
    assert main(["runs", "tail", f"{root}/a", "-n", "2", "-f"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["step", str(seen["finished"].step + n)] for n in (-1, 0)]
    assert "samples/s" in lines[0]
    assert "mlm " in lines[0]


def test_following_sees_every_new_step_once_and_ends_with_the_run(tmp_path, capsys):
    process = start([*SMALL, f"run_dir={tmp_path}/a"])
    while not (tmp_path / "a/lock").exists() or not (tmp_path / "a/log.txt").exists():
        time.sleep(0.01)
    assert main(["runs", "tail", f"{tmp_path}/a", "-n", "0", "--follow"]) == 0
    assert wait(process) == 0
    shown = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert shown == list(range(13 - len(shown), 13))
    assert len(shown) >= 10


def test_compare_shows_what_differs(folder, capsys):
    root, _ = folder
    assert main(["runs", "compare", f"{root}/a", f"{root}/b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["settings"]) == {"max_steps", "seed"}
    assert found["settings"]["seed"] == [0, 1]
    assert all(value is not None for values in found["results"].values() for value in values)
    assert main(["runs", "compare", f"{root}/a"]) == 2
    assert "two or more" in capsys.readouterr().err


def test_what_is_not_at_work_is_not_stopped(folder, capsys):
    root, _ = folder
    assert main(["runs", "stop", f"{root}/a"]) == 0
    assert "nobody is at work" in capsys.readouterr().out
    assert main(["runs", "stop", str(root)]) == 2
    assert "no run directory" in capsys.readouterr().err


def test_processes_that_are_started_again_stay_stopped_until_somebody_starts_the_run(tmp_path, monkeypatch, capsys):
    command = [*SMALL, f"run_dir={tmp_path}/a", "max_steps=100000"]
    process = start(command)
    until(lambda: (tmp_path / "a/metrics.jsonl").exists() and len(steps(tmp_path / "a")) > 2)
    assert (main(["runs", "stop", f"{tmp_path}/a"]), wait(process)) == (0, 143)
    step, mark = summarise(tmp_path / "a").step, tmp_path / "a/stop-asked"
    assert mark.exists()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    capsys.readouterr()
    assert main(command) == 0
    assert f"'{tmp_path}/a' was asked to stop" in capsys.readouterr().err
    assert (summarise(tmp_path / "a").step, summarise(tmp_path / "a").starts) == (step, 1)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert run([*command[:-1], f"max_steps={step + 1}", "schedule=constant", "allow_changes=[max_steps,schedule]"]) == 0
    assert not mark.exists()
    assert summarise(tmp_path / "a").step == step + 1


@pytest.mark.slow
def test_torchrun_does_not_start_a_stopped_run_again(tmp_path):
    command = [sys.executable, "-m", "pretrain", *TEXT, f"run_dir={tmp_path}/a", "max_steps=1000000"]
    command += ["launcher=torchrun", "launcher.max_restarts=3", "trainer.devices=2", "trainer.accelerator=cpu"]
    command += ["evaluate.every_n_steps=1000000", "checkpoint.every_n_steps=1000000"]
    agent = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (tmp_path / "a/metrics.jsonl").exists() and len(steps(tmp_path / "a")) > 2, 200)
        assert main(["runs", "stop", f"{tmp_path}/a"]) == 0
        _, said = agent.communicate(timeout=200)
    finally:
        agent.kill()
    assert agent.returncode == 0, said[-3000:]
    assert f"'{tmp_path}/a' was asked to stop, and stays so" in said
    assert summarise(tmp_path / "a").starts == 1


def test_a_run_that_is_killed_from_outside_is_told_from_one_that_failed(tmp_path):
    process = start([*SMALL, f"run_dir={tmp_path}/a", "max_steps=100000"])
    while not (tmp_path / "a/metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    wait(process)
    assert not (tmp_path / "a/ended.json").exists()
    assert summarise(tmp_path / "a").state == "interrupted"
