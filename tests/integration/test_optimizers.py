"""Continuing equals never having stopped for every optimizer, with averages, frozen towers and ramps of weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pretrain import checkpoint
from tests.integration.runs import SMALL, kill_at, outcome, run, steps

BASE = [*SMALL, "~tasks.wav2vec", "~tasks.clap", "~evaluators.image_audio"]
EMA = ["ema.decay=0.9", "evaluate.ema=true"]
VARIANTS = {
    "adamw": ["optimizer.layer_decay=0.7", "optimizer.lr_factors={text: 0.1}", "schedule=wsd", "ema.every_n_steps=2"],
    "plain": ["optimizer.fused=true", "schedule=inverse_sqrt", "tasks.mlm.weight={from: 0, to: 2, steps: 7}"],
    "muon": ["optimizer=muon", "schedule=linear", "schedule.warmup_samples=20"],
    "locked": ["optimizer=muon", "optimizer.lr_factors={image: 0, image.projections: 1}", "micro_batch_size=2"],
}


def command(run_dir: Path, variant: str) -> list[str]:
    return [*BASE, *EMA, *VARIANTS[variant], f"run_dir={run_dir}"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_kills_leave_no_trace(tmp_path: Path, variant: str) -> None:
    assert run(command(tmp_path / "straight", variant)) == 0
    again = command(tmp_path / "killed", variant)
    for step in (5, 10):  # checkpoints are at 3, 6, 9 and 12
        kill_at(again, tmp_path / "killed", step)
    assert run(again) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert steps(tmp_path / "killed") == list(range(1, 13))
    found = checkpoint.find(tmp_path / "killed")
    trained = {name.rpartition("/")[0] for name in found.optimizer}
    assert trained == found.ema.keys()
    assert all(t.dtype == torch.float32 for t in found.ema.values())
    frozen = {name for name in found.model if name.startswith("encoders.image.") and "projections" not in name}
    assert trained.isdisjoint(frozen) == (variant == "locked")
    assert any(not torch.equal(found.ema[name], found.model[name]) for name in trained)


def test_a_locked_tower_keeps_its_weights_and_a_ramp_is_in_the_rows(tmp_path: Path) -> None:
    ramp = "tasks.mlm.weight={from: 0, to: 2, steps: 4}"
    common = [*BASE, "max_steps=6", ramp, "optimizer.lr_factors={image: 0}"]
    assert run([*common, f"run_dir={tmp_path / 'run'}"]) == 0
    first, last = (checkpoint.read(tmp_path / f"run/checkpoints/step-0000000{n}") for n in (3, 6))
    for name, tensor in last.model.items():
        assert torch.equal(tensor, first.model[name]) == name.startswith("encoders.image."), name
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["mlm/weight"] for row in rows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert rows[0]["loss"] == pytest.approx(rows[0]["clip/loss"])
    assert rows[2]["loss"] == pytest.approx(rows[2]["clip/loss"] + rows[2]["mlm/loss"])


def test_averages_are_measured_where_asked_for(tmp_path: Path) -> None:
    for name, more in (
        ("own", []),
        ("kept", ["ema.decay=0.99"]),
        ("measured", ["ema.decay=0.99", "evaluate.ema=true"]),
    ):
        assert run([*BASE, "max_steps=6", *more, f"run_dir={tmp_path / name}"]) == 0
    held_out = {n: (tmp_path / n / "results.json").read_text() for n in ("own", "kept", "measured")}
    assert held_out["own"] == held_out["kept"] != held_out["measured"]
    weights = [checkpoint.find(tmp_path / n).model for n in ("own", "measured")]
    assert all(torch.equal(t, weights[1][name]) for name, t in weights[0].items())  # training does not notice


def test_averages_take_in_the_weights_of_their_own_step(tmp_path: Path) -> None:
    common = [*BASE, "max_steps=2", "checkpoint.every_n_steps=1", "ema.decay=0.75"]
    assert run([*common, f"run_dir={tmp_path / 'run'}"]) == 0
    first, last = (checkpoint.read(tmp_path / f"run/checkpoints/step-0000000{n}") for n in (1, 2))
    assert any(not torch.equal(first.model[name], last.model[name]) for name in last.ema)
    for name, average in last.ema.items():
        assert torch.allclose(average, 0.75 * first.ema[name] + 0.25 * last.model[name], rtol=1e-6, atol=1e-7), name


def test_another_optimizer_and_averages_that_are_not_made_are_refused(tmp_path: Path) -> None:
    assert run([*BASE, "max_steps=3", f"run_dir={tmp_path / 'run'}"]) == 0
    assert run([*BASE, "max_steps=6", "optimizer=muon", f"run_dir={tmp_path / 'run'}"]) == 2
    assert run([*BASE, "evaluate.ema=true", f"run_dir={tmp_path / 'other'}"]) == 2
