"""A loader that stalls: the run ends soon, with exit code 1 and a line that names rank, worker, shard and sample."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.marks import slow

STALLING = """
import os, time
from modalities.text.masked_lm import MaskedText

class Stalling(MaskedText):
    seen = 0

    def __call__(self, sample, rng, training):
        self.seen += training
        if self.seen > 10 and os.environ.get("RANK", "0") == os.environ["STALLS"]:
            time.sleep(1000)
        return super().__call__(sample, rng, training)
"""
COMMAND = [
    *("-m", "pretrain", "experiment=mlm_tiny", "data.vocab_size=320", "tasks.mlm.batch_size=4", "max_steps=100"),
    *("encoders.text.width=16", "encoders.text.depth=1", "encoders.text.heads=2", "trainer.accelerator=cpu"),
    *("tasks.mlm.prepare._target_=stalling.Stalling", "trusted_roots=[stalling]", "trainer.threads=1"),
    *("loader.warn_after_s=0.5", "loader.deadline_s=2", "evaluate.samples=4", "checkpoint.every_n_steps=1"),
]


@pytest.mark.parametrize(
    ("ranks", "workers"),
    [slow(1, 0), (1, 2), slow(2, 1)],
)
def test_a_stall_is_named_and_the_run_ends(tmp_path: Path, ranks: int, workers: int) -> None:
    (tmp_path / "stalling.py").write_text(STALLING)
    command = [sys.executable]
    if ranks > 1:
        torchrun = shutil.which("torchrun", path=os.path.dirname(sys.executable))
        assert torchrun
        command = [torchrun, "--standalone", f"--nproc-per-node={ranks}"]
    command += [*COMMAND, f"run_dir={tmp_path / 'run'}", f"loader.workers={workers}", f"trainer.devices={ranks}"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "STALLS": str(ranks - 1), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 1, done.stderr[-3000:]
    assert time.monotonic() - began < 60
    line = next(line for line in done.stderr.splitlines() if "pretrain: error: no data for" in line)
    assert f"rank {ranks - 1} waits for step" in line
    assert "prepares sample '" in line
    assert ".tar' for" in line
    assert "waiting for data for " in done.stderr
    assert list((tmp_path / "run/checkpoints").glob("step-*"))
