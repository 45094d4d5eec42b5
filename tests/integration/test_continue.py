"""Continuing equals never having stopped: weights, optimizer state and every row of metrics, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from pretrain import checkpoint
from pretrain.run import RunDirectory
from tests.integration.runs import SMALL, kill_at, outcome, run, start, steps, wait
from tests.marks import slow


def command(run_dir: Path, workers: int, micro_batches: int) -> list[str]:
    return [*SMALL, f"run_dir={run_dir}", f"loader.workers={workers}", f"micro_batch_size={4 // micro_batches}"]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "micro_batches"), [(0, 1), (2, 4), (0, 4), (2, 1)])  # micro-batches a step
def test_five_kills_leave_no_trace(tmp_path: Path, workers: int, micro_batches: int) -> None:
    assert run(command(tmp_path / "straight", workers, micro_batches)) == 0
    rng, again = random.Random(workers * 10 + micro_batches), command(tmp_path / "killed", workers, micro_batches)
    for step in (2, 4, 5, 8, 10):  # before the first checkpoint, between two, and after the second and third
        # The moment within the step is anyone's: reading, forward pass, update, a checkpoint being written.
        assert kill_at(again, tmp_path / "killed", step, later=rng.uniform(0.0, 0.02))
    assert run(again) == 0
    begun = RunDirectory(str(tmp_path / "killed"), rank=-1).rows("starts.jsonl")
    assert len({row["step"] for row in begun}) >= 3  # the start, and two checkpoints
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert steps(tmp_path / "killed") == list(range(1, 13))


@pytest.mark.parametrize("call", [1, slow(2), 3, slow(4), 5])
def test_kill_inside_a_checkpoint_write(tmp_path: Path, straight: tuple[str, bytes, bytes], call: int) -> None:
    """Dies at the n-th flush to disk once the second checkpoint is being written; tests/crash has every operation."""
    checkpoints, calls = tmp_path / "killed/checkpoints", 0

    def sabotage() -> None:
        flush = os.fsync

        def dying(file: int) -> None:
            nonlocal calls
            calls += any(checkpoints.glob(".step-00000006*"))
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(file)

        os.fsync = dying

    again = command(tmp_path / "killed", 0, 1)
    assert wait(start(again, sabotage)) == -signal.SIGKILL
    assert checkpoint.find(tmp_path / "killed").step in (3, 6)
    assert run(again) == 0
    assert outcome(tmp_path / "killed") == straight
    assert not [p for p in checkpoints.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), slow(signal.SIGUSR1, 143), slow(signal.SIGUSR2, 143)],
)
def test_signal_saves_and_says_so_by_its_exit_code(
    tmp_path: Path, straight: tuple[str, bytes, bytes], number: signal.Signals, code: int
) -> None:
    again = command(tmp_path / "stopped", 0, 1)
    pid = start(again)
    while not (tmp_path / "stopped/metrics.jsonl").exists() or not steps(tmp_path / "stopped"):
        time.sleep(0.01)
    os.kill(pid, number)
    assert wait(pid) == code
    stopped_at = steps(tmp_path / "stopped")[-1]
    assert checkpoint.find(tmp_path / "stopped").step == stopped_at < 12
    assert run(again) == 0
    assert outcome(tmp_path / "stopped") == straight


def test_finished_run_does_nothing(tmp_path: Path) -> None:
    again = command(tmp_path / "run", 0, 1)
    assert run(again) == 0
    before = outcome(tmp_path / "run")
    assert run(again) == 0
    assert outcome(tmp_path / "run") == before


def test_negative_control(tmp_path: Path, straight: tuple[str, bytes, bytes]) -> None:
    """Another seed must not be equal, or the comparisons above compare nothing."""
    assert run([*command(tmp_path / "other", 0, 1), "seed=1"]) == 0
    other = outcome(tmp_path / "other")
    assert all(a != b for a, b in zip(other, straight, strict=True))


def test_longer_run_goes_on(tmp_path: Path) -> None:
    short = [*command(tmp_path / "run", 0, 1), "max_steps=6", "schedule=constant"]
    assert run(short) == 0
    assert run([*short, "max_steps=12"]) == 0
    assert run([*command(tmp_path / "straight", 0, 1), "schedule=constant"]) == 0
    assert checkpoint.digest(checkpoint.find(tmp_path / "run")) == checkpoint.digest(
        checkpoint.find(tmp_path / "straight")
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, demo_cache: str) -> tuple[str, bytes, bytes]:
    """The outcome of the run that nobody interrupts."""
    os.environ["PRETRAIN_CACHE"] = demo_cache
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    assert run(command(run_dir, 0, 1)) == 0
    return outcome(run_dir)
