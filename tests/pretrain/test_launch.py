"""The parent of a run's processes passes signals on, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pretrain.launch import needed
from pretrain.lease import Lease


def test_a_signal_as_the_processes_are_born_is_not_lost(tmp_path: Path) -> None:
    arguments = ["experiment=mlm_tiny", "trainer.devices=2", "trainer.accelerator=cpu", f"run_dir={tmp_path / 'run'}"]
    parent = subprocess.Popen([sys.executable, "-m", "pretrain", *arguments], stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while not children.read_text():  # none yet
        assert parent.poll() is None
        time.sleep(0.0005)
    os.kill(parent.pid, signal.SIGTERM)
    _, error = parent.communicate(timeout=240)
    assert parent.returncode == 143, error
    assert set(error.splitlines()) == {"pretrain: stopped by SIGTERM before the first step; the same command continues"}


def test_a_rank_that_cannot_begin_is_not_waited_for(tmp_path: Path) -> None:
    """Rank 0 finds the directory in use; the others would wait for it to come to where they meet."""
    run = tmp_path / "run"
    run.mkdir()
    lease = Lease(run, "run")
    arguments = ["experiment=mlm_tiny", "trainer.devices=2", "trainer.accelerator=cpu", f"run_dir={run}"]
    done = subprocess.run([sys.executable, "-m", "pretrain", *arguments], capture_output=True, text=True, timeout=90)
    assert done.returncode == 2
    assert "is in use" in done.stderr
    lease.let_go()


def test_who_starts_the_others() -> None:
    assert needed(2, {})
    assert not needed(1, {})
    assert not needed(2, {"RANK": "0", "WORLD_SIZE": "2"})
    assert not needed(2, {"LOCAL_RANK": "1"})
    assert not needed(2, {"SLURM_STEP_NUM_TASKS": "2"})
    assert needed(2, {"SLURM_STEP_NUM_TASKS": "1"})
