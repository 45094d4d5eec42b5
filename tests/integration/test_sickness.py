"""Sick numbers in real runs: left out, stopped at, warned of; and every later start decides the same."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from data.loading.loader import StepLoader
from pretrain import checkpoint, ledger
from pretrain.feed import Feed
from pretrain.start import Start
from tests.integration.runs import kill_at, outcome, run, start, steps, wait
from tests.integration.sick import alarmed, command, rows, seen

pytestmark = pytest.mark.usefixtures("faulty")


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
