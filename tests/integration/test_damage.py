"""Damaged checkpoints: the newest sound one is taken; without one, a run never begins anew by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pretrain import checkpoint
from tests.integration.runs import SMALL, TEXT, outcome, run


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


def test_what_a_dying_host_leaves_in_files_of_rows_keeps_no_run_from_going_on(tmp_path: Path) -> None:
    run_dir, twin = tmp_path / "run", tmp_path / "twin"
    command = [*TEXT, "evaluate.every_n_steps=100", "ledger=true", f"run_dir={run_dir}"]
    assert run([*command, "max_steps=5"]) == 0
    with open(run_dir / "starts.jsonl", "ab") as file:
        file.write(b"\0" * 300 + b"\n")
    for name in ("metrics.jsonl", "speed.jsonl", "events.jsonl", "quarantine.jsonl", "ledger/rank-0.jsonl"):
        with open(run_dir / name, "ab") as file:
            file.write(b"\0" * 300 + b'{"step": 7}\n{"step": 8}\n')
    assert run(command) == 0
    assert "metrics.jsonl' holds a line that is no row with a step: '\\x00" in (run_dir / "log.txt").read_text()
    assert run([*command, f"run_dir={twin}", "max_steps=5"]) == 0
    assert run([*command, f"run_dir={twin}"]) == 0
    assert outcome(run_dir) == outcome(twin)


def test_without_a_checkpoint_it_begins_anew_all_the_same(tmp_path: Path) -> None:
    """A host that dies before the first save leaves such files, too."""
    run_dir = tmp_path / "run"
    command = [*TEXT, f"run_dir={run_dir}"]
    assert run([*command, "max_steps=1"]) == 0
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "published").unlink()
    for name in ("metrics.jsonl", "starts.jsonl"):
        with open(run_dir / name, "ab") as file:
            file.write(b"\0" * 300 + b"\n")
    assert run(command) == 0
    assert checkpoint.find(run_dir).step == 12


@pytest.mark.parametrize("steps", [12, 3])  # after a single one, nothing but the word that it was published says so
def test_checkpoints_that_are_gone(tmp_path: Path, steps: int) -> None:
    command = [*SMALL, f"run_dir={tmp_path / 'run'}", f"max_steps={steps}"]
    assert run(command) == 0
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert run(command) == 2
