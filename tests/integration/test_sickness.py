"""Sick numbers in real runs: left out, gone back from, stopped at; and every later start decides the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.loading.loader import StepLoader
from pretrain import checkpoint, ledger
from pretrain.callbacks.metrics import Metrics
from pretrain.feed import Feed
from pretrain.run import RunDirectory
from pretrain.soundness import decisions
from pretrain.start import Start
from tests.integration.runs import SMALL, kill_at, outcome, run, start, steps, wait

# Scales the gradient of the steps whose batch lies between two positions: what a bad stretch of data does.
FAULT = """
import pytorch_lightning as pl


class Fault(pl.Callback):
    def __init__(self, first: int, last: int, factor: str) -> None:
        self.first, self.last, self.factor = first, last, float(factor)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        objective = pl_module.model.tasks["mlm"].objective
        position = pl_module.start.position("mlm", batch.step, len(batch.places["mlm"]) * trainer.world_size)
        objective.__dict__.pop("step", None)
        if self.first <= position < self.last:
            plain = objective.step
            objective.step = lambda e, batches, step, weight: plain(e, batches, step, weight * self.factor)
"""
MLM = [
    *(one for one in SMALL if one.startswith(("data.", "evaluate.", "trainer.", "loader.", "schedule.", "tasks.mlm"))),
    *(one for one in SMALL if one.startswith("encoders.text")),
    *("experiment=mlm_tiny", "max_steps=30", "checkpoint.every_n_steps=5", "checkpoint.keep_last=9", "ledger=true"),
]
BACK = ["sick.window=8", "sick.patience=1", "sick.rewind.steps_back=3", "sick.rewind.skip_beyond=2"]


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty.py").write_text(FAULT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


def command(run_dir: Path, first: int, last: int, factor: str, *more: str) -> list[str]:
    """A run whose steps ``first`` to ``last`` (counted from 1) are sick as long as nothing is left out."""
    fault = f"{{_target_: faulty.Fault, first: {4 * (first - 1)}, last: {4 * last}, factor: '{factor}'}}"
    return [*MLM, f"run_dir={run_dir}", f"+alarms.fault={fault}", "trusted_roots=[faulty]", *more]


def rows(run_dir: Path, file: str) -> list[dict[str, Any]]:
    return list(RunDirectory(str(run_dir), rank=-1).rows(file))


def seen(run_dir: Path) -> list[Any]:
    """What the ledger recorded, which must be what can be told from config and starts."""
    directory = RunDirectory(str(run_dir), rank=-1)
    recorded = list(ledger.recorded(directory, 1, 99))
    assert recorded == list(ledger.computed(directory, 1, 99))
    return recorded


def test_a_step_that_is_none_is_left_out_and_named(tmp_path: Path) -> None:
    assert run(command(tmp_path / "run", 7, 7, "nan", "max_steps=12")) == 0
    metrics = rows(tmp_path / "run", "metrics.jsonl")
    assert [row["step"] for row in metrics if "skipped" in row] == [7]
    assert "gradient_norm" not in metrics[6]
    assert "mlm/loss" in metrics[6]
    [event] = rows(tmp_path / "run", "events.jsonl")
    assert (event["step"], event["event"], event["skipped"]) == (7, "nonfinite", True)
    assert event["values"]["gradient_norm"] == "nan"
    [row] = [row for row in seen(tmp_path / "run") if row["step"] == 7]
    assert event["samples"]["mlm"]["position"] == row["position"] == 24
    assert ledger.unpacked(event["samples"]["mlm"]).tolist() == row["places"]
    assert all(tensor.isfinite().all() for tensor in checkpoint.find(tmp_path / "run").model.values())


@pytest.mark.slow
def test_it_is_left_out_where_no_row_is_written(tmp_path: Path) -> None:
    every, tenth = tmp_path / "every", tmp_path / "tenth"
    assert run(command(every, 7, 7, "inf", "max_steps=12")) == 0
    assert run(command(tenth, 7, 7, "inf", "max_steps=12", "log_every_n_steps=10")) == 0
    assert checkpoint.digest(checkpoint.find(every)) == checkpoint.digest(checkpoint.find(tenth))
    assert rows(every, "events.jsonl") == rows(tenth, "events.jsonl")


@pytest.mark.parametrize(
    ("more", "code", "last"),
    [
        ((), 1, 9),  # three are left out, at the fourth it ends
        (("sick.nonfinite=stop",), 1, 6),
        pytest.param(("sick.nonfinite=warn",), 0, 12, marks=pytest.mark.slow),
        pytest.param(("sick.max_skips=6",), 0, 12, marks=pytest.mark.slow),
    ],
)
def test_policies_of_numbers_that_are_none(tmp_path: Path, more: tuple[str, ...], code: int, last: int) -> None:
    """Steps 6 to 11 are sick; a run that ends has the row of the step before it, and that of the step itself."""
    assert run(command(tmp_path / "run", 6, 11, "nan", "max_steps=12", *more)) == code
    assert steps(tmp_path / "run") == list(range(1, last + 1))
    assert checkpoint.find(tmp_path / "run").step == (12 if code == 0 else 5)


@pytest.mark.slow
def test_a_killed_run_leaves_out_the_same(tmp_path: Path) -> None:
    more = ["max_steps=14", "sick.spike=skip", "sick.window=8"]
    again = command(tmp_path / "killed", 7, 9, "nan", *more)
    assert run(command(tmp_path / "straight", 7, 9, "nan", *more)) == 0
    for step in (8, 11):
        kill_at(again, tmp_path / "killed", step)
    assert run(again) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert rows(tmp_path / "killed", "events.jsonl") == rows(tmp_path / "straight", "events.jsonl")


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


@pytest.mark.parametrize(
    ("policy", "code"),
    [("skip", 0), *(pytest.param(*one, marks=pytest.mark.slow) for one in (("warn", 0), ("stop", 1), ("off", 0)))],
)
def test_policies_of_spikes(tmp_path: Path, policy: str, code: int) -> None:
    assert (
        run(command(tmp_path / "run", 14, 14, "1e6", f"sick.spike={policy}", "sick.window=8", "sick.patience=1"))
        == code
    )
    events = rows(tmp_path / "run", "events.jsonl")
    assert [row["step"] for row in events][:1] == ([] if policy == "off" else [14])
    skipped = [row["step"] for row in rows(tmp_path / "run", "metrics.jsonl") if "skipped" in row]
    assert skipped == ([14] if policy == "skip" else [])


def test_a_later_start_judges_by_the_same_history(tmp_path: Path) -> None:
    """The bound of the spike is that of eight steps, most of them before the checkpoint that it goes on from."""
    again = command(tmp_path / "run", 14, 14, "1e6", "sick.spike=skip", "sick.window=8", "max_steps=16")
    assert run(again) == 0
    before, told = outcome(tmp_path / "run"), rows(tmp_path / "run", "events.jsonl")
    assert [row["step"] for row in told][:1] == [14]
    for path in checkpoint.published(tmp_path / "run/checkpoints"):
        if checkpoint.step_of(path) > 10:
            shutil.rmtree(path)
    assert run(again) == 0
    assert rows(tmp_path / "run", "events.jsonl") == told
    assert outcome(tmp_path / "run") == before


def alarmed(run_dir: Path, policy: str, from_step: int, *more: str) -> list[str]:
    """A run whose loss is above a limit from a step on."""
    limits = f"task: mlm, metric: loss, high: 1, from_step: {from_step}, window: 1, policy: {policy}"
    node = f"{{_target_: pretrain.callbacks.limits.Limits, {limits}}}"
    return [*MLM, f"run_dir={run_dir}", f"+alarms.loss={node}", *BACK, "max_steps=16", *more]


def test_an_alarm_leaves_out_what_follows(tmp_path: Path) -> None:
    again = alarmed(tmp_path / "run", "skip", 12)
    assert run(again) == 0
    [decision] = rows(tmp_path / "run", "decisions.jsonl")
    assert (decision["step"], decision["back"], decision["jumps"]) == (12, False, {"mlm": 8})
    events = rows(tmp_path / "run", "events.jsonl")
    assert [(row["step"], row["event"], row.get("policy")) for row in events] == [
        (12, "left_band", "skip"),
        (12, "jump", None),
    ]
    positions = {row["step"]: row["position"] for row in seen(tmp_path / "run")}
    assert positions == {step: 4 * (step - 1) + (8 if step > 12 else 0) for step in range(1, 17)}
    whole = outcome(tmp_path / "run")
    for path in checkpoint.published(tmp_path / "run/checkpoints")[:2]:  # back to step 10
        shutil.rmtree(path)
    assert run(again) == 0
    assert outcome(tmp_path / "run") == whole
    assert rows(tmp_path / "run", "events.jsonl") == events
    assert rows(tmp_path / "run", "decisions.jsonl") == [decision]


def test_a_signal_behind_a_jump_loses_no_step(tmp_path: Path) -> None:
    """It comes while the loader that is opened anew there is waited for."""

    def sabotage() -> None:
        plain = Feed._open

        def signalled(feed: Feed, start: Start) -> StepLoader:
            if start.before is not None:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(feed, start)

        Feed._open = signalled  # type: ignore[method-assign]

    straight, again = alarmed(tmp_path / "straight", "skip", 12), alarmed(tmp_path / "run", "skip", 12)
    assert run(straight) == 0
    assert wait(start(again, sabotage)) == 143
    assert checkpoint.find(tmp_path / "run").step == 12
    assert run(again) == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")
    assert seen(tmp_path / "run") == seen(tmp_path / "straight")
    assert rows(tmp_path / "run", "events.jsonl") == rows(tmp_path / "straight", "events.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "code", "decided"), [("rewind", 1, [5, 5]), ("stop", 1, []), ("warn", 0, [])])
def test_other_policies_of_alarms(tmp_path: Path, policy: str, code: int, decided: list[int]) -> None:
    """What an alarm looks at does not get better by going back: that ends when it was done often enough."""
    assert run(alarmed(tmp_path / "run", policy, 9, "sick.rewind.at_most=2")) == code
    assert [row["step"] for row in rows(tmp_path / "run", "decisions.jsonl")] == decided


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
