"""Damaged checkpoints: the newest sound one is taken; without one, a run never begins anew by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pretrain import checkpoint
from tests.integration.runs import SMALL, outcome, run


def flip(path: Path) -> None:
    raw = bytearray((path / "model.safetensors").read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / "model.safetensors").write_bytes(raw)


def test_falls_back_then_refuses_to_start_over(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = [*SMALL, f"run_dir={run_dir}"]
    assert run(command) == 0
    before = outcome(run_dir)
    newest, older = checkpoint.published(run_dir / "checkpoints")
    flip(newest)
    assert run(command) == 0  # steps 10 to 12 once more, from the older checkpoint
    assert outcome(run_dir) == before
    assert [path.name for path in checkpoint.damaged(run_dir / "checkpoints")] == ["damaged-step-00000012"]
    assert older.name == "step-00000009"
    left = checkpoint.published(run_dir / "checkpoints")
    for path in left:
        flip(path)
    metrics = (run_dir / "metrics.jsonl").read_bytes()
    longer = [*command, "max_steps=14"]
    for _ in range(2):
        assert run(longer) == 2
    assert (run_dir / "metrics.jsonl").read_bytes() == metrics
    for path in left:  # where none can be read, the disk may be to blame: none was renamed
        flip(path)
    assert run(longer) == 0
    assert checkpoint.find(run_dir).step == 14


@pytest.mark.parametrize("steps", [12, 3])  # after a single one, nothing but the word that it was published says so
def test_checkpoints_that_are_gone(tmp_path: Path, steps: int) -> None:
    command = [*SMALL, f"run_dir={tmp_path / 'run'}", f"max_steps={steps}"]
    assert run(command) == 0
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert run(command) == 2
