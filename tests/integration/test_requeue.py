"""A job that is told that its time is over asks once to be started again; one that is cancelled does not."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pretrain.config
import pretrain.feed
import pretrain.train
from pretrain import checkpoint, signals
from pretrain.callbacks import report as callbacks_report
from tests.integration.ranks import start_together
from tests.integration.runs import SMALL, TEXT, start, steps, wait
from tests.processes import until

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
    run_dir = tmp_path / "run"
    slurm(tmp_path, monkeypatch, said)
    pids = start_together(ranks, [*SMALL, "max_steps=1000", "evaluate.every_n_steps=1000", f"run_dir={run_dir}", *more])
    while not (run_dir / "metrics.jsonl").exists() or not steps(run_dir):
        time.sleep(0.01)
    os.kill(pids[-1], number)
    assert [wait(pid) for pid in pids] == [143] * ranks
    assert what_was_asked(tmp_path) == asked


def test_no_rank_ends_while_the_scheduler_is_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ``srun --kill-on-bad-exit`` the first one that ends is a reason to kill the others, with what they ask."""
    slurm(tmp_path, monkeypatch, RUNNING, "sleep 8")
    run_dir = tmp_path / "run"
    pids = start_together(2, [*TEXT, "max_steps=100000", "evaluate.every_n_steps=100000", f"run_dir={run_dir}"])
    until(lambda: (run_dir / "metrics.jsonl").exists() and steps(run_dir))
    os.kill(pids[1], signal.SIGUSR1)
    ended: list[int] = []

    def one_has_ended() -> bool:
        ended[:] = [pid for pid in pids if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)]
        return bool(ended)

    until(one_has_ended)
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
    assert (tmp_path / "answered").read_text() == "requeue 12\n"
    assert 143 in [wait(pid) for pid in pids]


@pytest.mark.parametrize("place", ["composing", "building", "stuck"])
@pytest.mark.parametrize(
    ("number", "ranks", "said", "more", "asked"),
    [
        (signal.SIGUSR1, 2, RUNNING, (), ["requeue 12"]),
        (signal.SIGTERM, 1, CANCELLED, (), [SHOW]),
        (signal.SIGTERM, 1, PREEMPTED, (), [SHOW, "requeue 12"]),
        (signal.SIGINT, 1, PREEMPTED, (), []),
        (signal.SIGTERM, 1, PREEMPTED, ("interruption.requeue=false",), []),
    ],
)
def test_a_start_that_ends_by_itself_asks_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    ranks: int,
    said: str,
    more: tuple[str, ...],
    asked: list[str],
    place: str,
) -> None:
    """To Slurm it has failed: nobody else puts it back into the queue."""
    slurm(tmp_path, monkeypatch, said)

    def sabotage() -> None:
        module, name = (pretrain.config, "load") if place == "composing" else (pretrain.train, "build_model")
        real = getattr(module, name)
        if place == "stuck":  # otherwise a busy machine takes longer to compose than the grace time
            signals.START_GRACE_S = 0.5

        def signalled(*given: Any, **named: Any) -> Any:
            os.kill(os.getpid(), number)
            time.sleep(60 if place == "stuck" else 0)
            return real(*given, **named)

        setattr(module, name, signalled)

    arguments = [*TEXT, f"run_dir={tmp_path / 'run'}", *more]
    if ranks == 1:
        pids = [start(arguments, sabotage)]
    else:
        pids = start_together(ranks, arguments, dict.fromkeys(range(ranks), sabotage))
    assert [wait(pid) for pid in pids] == [130 if number == signal.SIGINT else 143] * ranks
    assert what_was_asked(tmp_path) == asked


@pytest.mark.parametrize("slow", [0, 1])
def test_a_rank_that_waits_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: int) -> None:
    """The others cannot be called off, so the ranks do not meet at the edge of a step; rank 0 asks all the same."""
    slurm(tmp_path, monkeypatch, RUNNING)
    run_dir = tmp_path / "run"

    given = [*TEXT, "interruption.attempts=1", f"run_dir={run_dir}"]
    pids = start_together(2, given, {slow: lambda: wait_for_step_4(tmp_path)})
    until(lambda: (tmp_path / "waits").exists())
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    assert [wait(pid) for pid in pids] == [143, 143]
    assert what_was_asked(tmp_path) == ["requeue 12"]
    # A stop that another rank had to tell of is no death.
    assert [wait(pid) for pid in start_together(2, given)] == [0, 0]


def test_a_wait_that_is_left_saves_and_asks_before_it_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report may wait for storage that is as slow as that of the data."""
    slurm(tmp_path, monkeypatch, RUNNING)
    run_dir, errors = tmp_path / "run", tmp_path / "errors"

    def sabotage() -> None:
        wait_for_step_4(tmp_path)

        def report(path: Path) -> None:
            there = [found.name for found in checkpoint.published(run_dir / "checkpoints")]
            (tmp_path / "reported").write_text(f"{there} {what_was_asked(tmp_path)}")

        callbacks_report.write_report = report  # type: ignore[assignment]
        sys.stderr = open(errors, "a", buffering=1)  # noqa: SIM115 - as long as the process lives

    pid = start([*TEXT, "checkpoint.every_n_steps=100", f"run_dir={run_dir}"], sabotage)
    until(lambda: (tmp_path / "waits").exists())
    os.kill(pid, signal.SIGUSR1)
    assert wait(pid) == 143
    assert (tmp_path / "reported").read_text() == "['step-00000003'] ['requeue 12']"
    assert what_was_asked(tmp_path) == ["requeue 12"]
    assert "pretrain: stopped by SIGUSR1 after step 3; the same command continues" in errors.read_text()


def test_the_removal_of_older_checkpoints_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take as long as reading them: longer than a scheduler waits."""
    slurm(tmp_path, monkeypatch, RUNNING)
    run_dir = tmp_path / "run"

    def sabotage() -> None:
        checkpoint.prune = lambda *given: time.sleep(300)  # type: ignore[assignment]

    given = [*TEXT, "max_steps=100000", "checkpoint.every_n_steps=100000", "evaluate.every_n_steps=100000"]
    pid = start([*given, f"run_dir={run_dir}"], sabotage)
    until(lambda: (run_dir / "metrics.jsonl").exists() and steps(run_dir))
    os.kill(pid, signal.SIGUSR1)
    assert wait(pid, 60) == 143
    assert what_was_asked(tmp_path) == ["requeue 12"]
    assert checkpoint.find(run_dir).step == steps(run_dir)[-1]


def wait_for_step_4(folder: Path) -> None:
    """From now on this process waits for the data of step 4 longer than a test does; with a file it says so."""
    real, pretrain.feed.PATIENCE_S = pretrain.feed.Course.__iter__, 0.2

    def slowly(course: Any) -> Any:
        for batch in real(course):
            if batch.step == 3:
                (folder / "waits").touch()
                time.sleep(300)
            yield batch

    pretrain.feed.Course.__iter__ = slowly  # type: ignore[method-assign]


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str, first: str = "") -> None:
    """A job of which ``scontrol`` says ``said``, once it has done ``first``."""
    program = folder / "scontrol"
    answer = f'echo "$@" >> {folder}/answered\necho "{said}"\n'
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{first}\n{answer}')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")


def what_was_asked(folder: Path) -> list[str]:
    file = folder / "asked"
    return file.read_text().splitlines() if file.exists() else []
