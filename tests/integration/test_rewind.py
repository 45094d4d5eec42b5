"""Going back from sick numbers to a checkpoint before them, and leaving out what followed it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pretrain import checkpoint
from pretrain.callbacks import progress
from pretrain.callbacks.metrics import Metrics
from pretrain.callbacks.sickness import Sickness
from pretrain.soundness import decisions
from pretrain.soundness.guard import Guard
from tests.integration.runs import outcome, run, start, steps, wait
from tests.integration.sick import BACK, FAULT, command, rows, seen

pytestmark = pytest.mark.usefixtures("faulty")


@pytest.fixture(scope="module")
def gone_back(tmp_path_factory: pytest.TempPathFactory, demo_cache: str) -> Path:
    """A run that had a spike at step 14, went back to 10, and left out six batches there."""
    os.environ["PRETRAIN_CACHE"] = demo_cache
    folder = tmp_path_factory.mktemp("gone_back")
    (folder / "faulty.py").write_text(FAULT)
    sys.path.insert(0, str(folder))
    assert run(command(folder / "run", 14, 15, "1e6", "sick.spike=rewind", *BACK)) == 0
    sys.path.remove(str(folder))
    return folder / "run"


def test_a_spike_is_gone_back_from(gone_back: Path) -> None:
    [decision] = rows(gone_back, "decisions.jsonl")
    assert (decision["step"], decision["back"], decision["jumps"]) == (10, True, {"mlm": 24})
    assert (decision["cause"]["event"], decision["cause"]["step"]) == ("spike", 14)
    assert "gradient_norm" in decision["cause"]["bounds"]
    assert decision["cause"]["samples"]["mlm"]["position"] == 52
    assert steps(gone_back) == list(range(1, 31))
    assert [(row["step"], row["event"]) for row in rows(gone_back, "events.jsonl")] == [(10, "jump")]
    positions = {row["step"]: row["position"] for row in seen(gone_back)}
    assert positions == {step: 4 * (step - 1) + (24 if step > 10 else 0) for step in range(1, 31)}
    assert checkpoint.find(gone_back).state["positions"] == {"mlm": 144}


def test_a_spike_that_a_stop_has_left_unread_is_gone_back_from(tmp_path: Path) -> None:
    """On CUDA a step's numbers are read when the next one is computed; a stopped run computes none."""

    def read_later() -> None:
        plain = Guard.settle

        def settle(guard: Guard, everything: bool = True) -> None:
            newest = [] if everything or not guard._pending else [guard._pending.pop()]
            plain(guard, everything)
            guard._pending.extend(newest)

        Guard.settle = settle  # type: ignore[method-assign]

    def stopped() -> None:
        read_later()
        plain = Sickness.on_train_batch_end

        def signalled(self: Sickness, trainer: Any, module: Any, *rest: Any) -> None:
            plain(self, trainer, module, *rest)
            if module.steps_done == 14:
                os.kill(os.getpid(), signal.SIGTERM)

        Sickness.on_train_batch_end = signalled  # type: ignore[method-assign]

    more = ["sick.spike=rewind", *BACK, "log_every_n_steps=10", "max_steps=20"]
    straight, again = (command(tmp_path / name, 14, 15, "1e6", *more) for name in ("straight", "again"))
    assert wait(start(straight, read_later)) == 0
    assert wait(start(again, stopped)) == 143
    assert checkpoint.find(tmp_path / "again").step == 14
    assert rows(tmp_path / "again", "events.jsonl") == []
    assert wait(start(again, read_later)) == 0
    assert len(rows(tmp_path / "again", "decisions.jsonl")) == 1
    assert rows(tmp_path / "again", "decisions.jsonl") == rows(tmp_path / "straight", "decisions.jsonl")
    assert rows(tmp_path / "again", "events.jsonl") == rows(tmp_path / "straight", "events.jsonl")
    assert outcome(tmp_path / "again") == outcome(tmp_path / "straight")
    assert seen(tmp_path / "again") == seen(tmp_path / "straight")


def test_the_time_left_is_told_also_after_going_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETRAIN_TEST_STDERR", str(tmp_path / "stderr"))

    def slowly() -> None:
        plain = Metrics.on_train_batch_end

        def wait_first(self: Metrics, *rest: Any) -> None:
            time.sleep(0.1)
            plain(self, *rest)

        Metrics.on_train_batch_end = wait_first  # type: ignore[method-assign]
        progress.LINE_SECONDS = 0.0

    assert wait(start(command(tmp_path / "run", 14, 15, "1e6", "sick.spike=rewind", *BACK), slowly)) == 0
    told = re.findall(r"^step (\d+)/30 .* left (\d+) s$", (tmp_path / "stderr").read_text(), re.MULTILINE)
    left = [int(seconds) for _, seconds in told]
    back = max(number for number, (step, _) in enumerate(told) if step == "11")
    assert left[back] <= 3 * left[back - 1] + 3


@pytest.mark.parametrize("from_step", [10, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 5, 15, 25))])
def test_every_later_start_decides_the_same(tmp_path: Path, gone_back: Path, from_step: int) -> None:
    """Whatever checkpoint is left: before the jump, at it, behind it, or none."""
    again = tmp_path / "again"
    shutil.copytree(gone_back, again)
    for path in checkpoint.published(again / "checkpoints"):
        if checkpoint.step_of(path) > from_step:
            shutil.rmtree(path)
    if not from_step:
        for name in ("checkpoints", "metrics.jsonl", "starts.jsonl", "published"):
            shutil.rmtree(again / name, ignore_errors=True)
            (again / name).unlink(missing_ok=True)
    assert run(command(again, 14, 15, "1e6", "sick.spike=rewind", *BACK)) == 0
    assert outcome(again) == outcome(gone_back)
    assert seen(again) == seen(gone_back)
    for file in ("decisions.jsonl", "events.jsonl"):
        assert rows(again, file) == rows(gone_back, file)


@pytest.mark.parametrize(("signalled", "kept"), [((12, 13), 2), pytest.param((11,), 9, marks=pytest.mark.slow)])
def test_what_a_signal_saves_changes_no_decision(tmp_path: Path, signalled: tuple[int, ...], kept: int) -> None:
    """It neither is gone back to nor takes the place of what is gone back to."""
    more = [*BACK, "sick.spike=rewind", f"checkpoint.keep_last={kept}", "max_steps=20"]
    straight, again = (command(tmp_path / name, 14, 15, "1e6", *more) for name in ("straight", "run"))
    assert run(straight) == 0

    def sabotage() -> None:
        plain = Metrics.on_train_batch_end

        def signal_behind(self: Metrics, trainer: Any, module: Any, *rest: Any) -> None:
            plain(self, trainer, module, *rest)
            if module.steps_done in signalled:
                os.kill(os.getpid(), signal.SIGTERM)

        Metrics.on_train_batch_end = signal_behind  # type: ignore[method-assign]

    for step in signalled:
        assert wait(start(again, sabotage)) == 143
        assert checkpoint.find(tmp_path / "run").step == step
    assert run(again) == 0
    assert rows(tmp_path / "run", "decisions.jsonl") == rows(tmp_path / "straight", "decisions.jsonl")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


@pytest.mark.parametrize("after", ["keep", pytest.param("withdraw", marks=pytest.mark.slow)])
def test_a_kill_while_going_back_leaves_no_trace(tmp_path: Path, gone_back: Path, after: str) -> None:
    def sabotage() -> None:
        owner = decisions if after == "keep" else checkpoint
        plain = getattr(owner, after)

        def dying(*arguments: Any) -> None:
            if after == "keep":
                plain(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, after, dying)

    # A checkpoint of the course that is turned back from lies in between.
    more = [*BACK, "checkpoint.every_n_steps=1", "checkpoint.keep_last=99"]
    again = command(tmp_path / "killed", 14, 15, "1e6", "sick.spike=rewind", *more)
    straight = command(tmp_path / "straight", 14, 15, "1e6", "sick.spike=rewind", *more)
    assert run(straight) == 0
    assert wait(start(again, sabotage)) == -signal.SIGKILL
    assert checkpoint.step_of(checkpoint.published(tmp_path / "killed/checkpoints")[0]) == 13
    assert [row["step"] for row in rows(tmp_path / "straight", "decisions.jsonl")] == [11]  # three before the sick one
    assert run(again) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert seen(tmp_path / "killed") == seen(tmp_path / "straight")


@pytest.mark.slow
def test_going_back_is_bounded(tmp_path: Path) -> None:
    """All data behind step 13 is sick."""
    more = [*BACK, "sick.rewind.at_most=2"]
    assert run(command(tmp_path / "run", 14, 999, "nan", "sick.nonfinite=rewind", *more)) == 1
    taken = rows(tmp_path / "run", "decisions.jsonl")
    assert [row["step"] for row in taken] == [10, 5]
    # Step 11 saw what stood 24 samples later: going back behind that jump leaves out those as well.
    assert [row["cause"]["step"] for row in taken] == [14, 11]
    assert [row["jumps"]["mlm"] for row in taken] == [24, (40 + 24 + 4) + 2 * 4 - 20]


def test_checkpoints_stay_as_long_as_they_may_be_gone_back_to(tmp_path: Path) -> None:
    """``keep_last`` alone would leave that of step 10, which is too near."""
    more = [*BACK, "sick.rewind.steps_back=9", "checkpoint.keep_last=1"]
    assert run(command(tmp_path / "run", 14, 15, "1e6", "sick.spike=rewind", *more)) == 0
    assert [row["step"] for row in rows(tmp_path / "run", "decisions.jsonl")] == [5]


@pytest.mark.slow
def test_with_nothing_to_go_back_to_it_goes_on(tmp_path: Path) -> None:
    more = [*BACK, "sick.rewind.steps_back=50"]
    assert run(command(tmp_path / "run", 14, 15, "1e6", "sick.spike=rewind", *more)) == 0
    assert not (tmp_path / "run/decisions.jsonl").exists()
    assert {row["event"] for row in rows(tmp_path / "run", "events.jsonl")} == {"spike"}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_go_back_together(tmp_path: Path, gone_back: Path, strategy: str) -> None:
    more = ["trainer.devices=2", f"trainer.strategy={strategy}", "sick.spike=rewind", *BACK]
    arguments = [sys.executable, "-m", "pretrain", *command(tmp_path / "two", 14, 15, "1e6", *more)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert seen(tmp_path / "two") == seen(gone_back)
    assert [row["step"] for row in rows(tmp_path / "two", "decisions.jsonl")] == [10]
    assert steps(tmp_path / "two") == list(range(1, 31))
    assert json.loads((tmp_path / "two/results.json").read_text())["step"] == 30
