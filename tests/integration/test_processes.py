"""Several processes: the same global batches, the same ledger, weights that differ by rounding alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain import checkpoint
from pretrain.ledger import computed, recorded
from pretrain.run import RunDirectory
from tests.integration.runs import SMALL, run

# Rounding differs between ranks; dropout would draw other numbers.
EXACT = [*SMALL, *(f"encoders.{name}.dropout=0" for name in ("text", "image", "audio")), "ledger=true"]


def launch(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]


def ledger(run_dir: Path) -> list[dict[str, object]]:
    return list(recorded(RunDirectory(str(run_dir), rank=-1), 1, 12))


@pytest.mark.slow
def test_torchrun_equals_one_process_and_goes_on_alone(tmp_path: Path) -> None:
    assert run([*EXACT, f"run_dir={tmp_path / 'one'}"]) == 0
    torchrun = shutil.which("torchrun", path=os.path.dirname(sys.executable))
    assert torchrun
    two = ["-m", "pretrain", *EXACT, f"run_dir={tmp_path / 'two'}"]
    launch(
        torchrun, "--standalone", "--nproc-per-node=2", *two, "trainer.devices=2", "max_steps=6", "schedule=constant"
    )
    assert checkpoint.find(tmp_path / "two").step == 6
    assert run([*two[2:], "schedule=constant"]) == 0  # the rest on one device
    assert run([*EXACT, f"run_dir={tmp_path / 'one'}2", "schedule=constant"]) == 0
    assert ledger(tmp_path / "two") == ledger(tmp_path / "one")
    assert ledger(tmp_path / "two") == list(computed(RunDirectory(str(tmp_path / "two"), rank=-1), 1, 12))
    there, here = checkpoint.find(tmp_path / "two"), checkpoint.find(tmp_path / "one2")
    for name, tensor in here.model.items():
        assert (there.model[name] - tensor).norm() <= 1e-4 * tensor.norm() + 1e-6, name


@pytest.mark.slow
def test_own_launcher_equals_torchrun(tmp_path: Path) -> None:
    pretrain = [sys.executable, "-m", "pretrain", *EXACT, "trainer.devices=2", "trainer.strategy=ddp"]
    launch(*pretrain, f"run_dir={tmp_path / 'own'}")
    torchrun = shutil.which("torchrun", path=os.path.dirname(sys.executable))
    assert torchrun
    launch(torchrun, "--standalone", "--nproc-per-node=2", *pretrain[1:], f"run_dir={tmp_path / 'torchrun'}")
    digests = [checkpoint.digest(checkpoint.find(tmp_path / name)) for name in ("own", "torchrun")]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_torchrun_launcher_starts_two_processes_and_goes_on_alone(tmp_path: Path) -> None:
    pretrain = [sys.executable, "-m", "pretrain", *EXACT, f"run_dir={tmp_path / 'run'}"]
    launch(*pretrain, "launcher=torchrun", "trainer.devices=2", "max_steps=6", "schedule=constant")
    assert checkpoint.find(tmp_path / "run").step == 6
    launch("bash", str(tmp_path / "run/launch/torchrun.sh"))  # nothing left to do
    launch(*pretrain, "schedule=constant")
    assert ledger(tmp_path / "run") == list(computed(RunDirectory(str(tmp_path / "run"), rank=-1), 1, 12))


@pytest.mark.slow
def test_a_sweep_makes_a_run_for_each_combination(tmp_path: Path) -> None:
    launch(
        sys.executable,
        "-m",
        "pretrain",
        "-m",
        *SMALL,
        f"run_dir={tmp_path}",
        "seed=0,1",
        "max_steps=2",
        "optimizer.lr=1e-3,2e-3",
    )
    runs = sorted(tmp_path.glob("seed=*"))
    assert [path.name for path in runs] == [f"seed={s},optimizer.lr={lr}" for s in (0, 1) for lr in ("0.001", "0.002")]
    assert len({checkpoint.digest(checkpoint.find(path)) for path in runs}) == 4
