"""What goes wrong around a run: dead workers, full disks, numbers that are none, launchers that disagree."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain import checkpoint, module
from pretrain.callbacks import edge
from pretrain.cli import main
from tests.integration.runs import SMALL, TEXT, run, start, steps, wait
from tests.processes import children


@pytest.mark.parametrize("which", [0, -1])
def test_a_dead_worker_ends_the_run_and_not_its_data(tmp_path: Path, which: int) -> None:
    command = [*SMALL, f"run_dir={tmp_path / 'run'}", "loader.workers=2", "max_steps=100000"]
    pid = start(command)
    while not (tmp_path / "run/metrics.jsonl").exists() or len(steps(tmp_path / "run")) < 4:
        time.sleep(0.02)
    workers = children(pid)
    os.kill(workers[which], signal.SIGKILL)
    assert wait(pid, 30) == 1
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert checkpoint.find(tmp_path / "run").step >= 3


def test_each_start_says_which_shards_are_damaged(
    tmp_path: Path, shards: Callable[..., str], tokenizer_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = shards("own", 40, max_bytes=10**6)
    (shard,) = (tmp_path / "shards").glob("own-*.tar")
    shard.write_bytes(shard.read_bytes()[:-20_000])
    shard.with_name(f"{shard.name}.idx").unlink(missing_ok=True)
    data = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}", f"data.text.train={pattern}"]
    command = [*TEXT, *data, "data.heldout=null", f"run_dir={tmp_path / 'run'}"]
    command = [one for one in command if not one.startswith("data.vocab_size")]
    for steps_wanted in (2, 4):
        assert run([*command, f"max_steps={steps_wanted}"]) == 0
    line = re.compile(r"shard '\S*own-000000.tar': breaks off at byte \d+ \(\d+ samples are readable\)")
    assert len(line.findall((tmp_path / "run/log.txt").read_text())) == 2
    starts = [json.loads(row) for row in (tmp_path / "run/starts.jsonl").read_text().splitlines()]
    assert [bool(line.search(row["damage"][0])) for row in starts] == [True, True]
    assert "damaged data: shard &#x27;" in (tmp_path / "run/report.html").read_text()
    assert main(["plan", *command, "--tflops", "1", "--json"]) == 0
    assert any(map(line.search, json.loads(capsys.readouterr().out)["remarks"]))


def test_numbers_that_are_none_are_never_saved(tmp_path: Path) -> None:
    assert run([*SMALL, f"run_dir={tmp_path / 'run'}", "optimizer.lr=1e30", "checkpoint.every_n_steps=1"]) == 1
    for path in checkpoint.published(tmp_path / "run/checkpoints"):
        assert all(tensor.isfinite().all() for tensor in checkpoint.read(path).model.values())
    assert "NaN" not in (tmp_path / "run/metrics.jsonl").read_text()


def test_weights_that_are_none_are_never_saved(tmp_path: Path) -> None:
    """However they came to be: a step is judged by its loss and gradient, which say nothing of what its update does."""
    errors = tmp_path / "errors"

    def sabotage() -> None:
        sys.stderr = open(errors, "a", buffering=1)  # noqa: SIM115 - as long as the process lives
        plain = module.Pretraining._update

        def spoiling(self: module.Pretraining, sound: torch.Tensor) -> None:
            plain(self, sound)
            if self.steps_done == 5:  # in step 6, behind which a checkpoint is due and no measurement
                next(self.model.parameters()).data.view(-1)[0] = float("inf")

        module.Pretraining._update = spoiling  # type: ignore[method-assign]

    assert wait(start([*SMALL, f"run_dir={tmp_path / 'run'}"], sabotage)) == 1
    assert checkpoint.find(tmp_path / "run").step == 3
    assert "in the state holds numbers that are not finite; it is not saved" in errors.read_text()


def test_a_disk_that_is_full_for_a_while_does_not_end_the_run(tmp_path: Path) -> None:
    """Nothing of the checkpoints of steps 6 to 8 fits; the one of step 3 stands, and step 9 is published."""
    command = [*SMALL, f"run_dir={tmp_path / 'run'}", "checkpoint.asynchronous=false"]

    def full() -> None:
        make = os.mkdir

        def refusing(path: str, *arguments: int) -> None:
            if re.search(r"step-0000000[678]", str(path)):
                raise OSError(errno.ENOSPC, "No space left on device")
            make(path, *arguments)

        os.mkdir = refusing

    assert wait(start(command, full)) == 0
    assert [row["event"] for row in events(tmp_path / "run")].count("checkpoint_failed") >= 1
    assert checkpoint.find(tmp_path / "run").step == 12
    assert run(command) == 0


def events(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def test_a_run_whose_directory_was_taken_publishes_nothing_more(tmp_path: Path) -> None:
    """Where directories cannot be locked, who removes the lock file lets a second process in: the first one leaves."""
    run_dir, errors = tmp_path / "run", tmp_path / "errors"

    def sabotage() -> None:
        lock = fcntl.flock

        def of_files_alone(file: Any, how: int) -> None:
            if stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode):
                raise OSError(errno.EOPNOTSUPP, "no such locks")
            lock(file, how)

        fcntl.flock = of_files_alone
        edge._LOOK_S = 0.0
        sys.stderr = open(errors, "a", buffering=1)  # noqa: SIM115 - as long as the process lives

    pid = start([*SMALL, "max_steps=100000", "evaluate.every_n_steps=100000", f"run_dir={run_dir}"], sabotage)
    while not (run_dir / "metrics.jsonl").exists() or not steps(run_dir):
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, errors.read_text()
        time.sleep(0.02)
    other = run_dir / "lock.new"
    with open(other, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.rename(run_dir / "lock")
        assert wait(pid) == 1
        newest = checkpoint.published(run_dir / "checkpoints")[:1]
    assert f"'{run_dir / 'lock'}' was removed, and " in errors.read_text()
    assert not newest or checkpoint.step_of(newest[0]) <= steps(run_dir)[-1]


def test_resume_from_another_run_is_held_to_its_config(tmp_path: Path) -> None:
    assert run([*SMALL, f"run_dir={tmp_path / 'a'}", "max_steps=3"]) == 0
    other = [*SMALL, f"run_dir={tmp_path / 'b'}", f"resume={tmp_path / 'a'}", "max_steps=6"]
    assert run([*other, "seed=7"]) == 2
    assert run([*other, "tasks.mlm.batch_size=2"]) == 2
    assert run(other) == 0
    assert steps(tmp_path / "b") == [4, 5, 6]
    (tmp_path / "a/config.yaml").unlink()
    assert run([*SMALL, f"run_dir={tmp_path / 'a'}", "max_steps=6", "seed=7"]) == 2


def test_a_run_that_goes_on_from_another_survives_a_kill_before_its_first_checkpoint(tmp_path: Path) -> None:
    assert run([*SMALL, f"run_dir={tmp_path / 'a'}", "max_steps=3"]) == 0
    other = [*SMALL, f"run_dir={tmp_path / 'b'}", f"resume={tmp_path / 'a'}", "checkpoint.every_n_steps=4"]
    pid = start([*other, "checkpoint.every_n_steps=100"])
    while not (tmp_path / "b/metrics.jsonl").exists() or len(steps(tmp_path / "b")) < 2:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    assert run(other) == 0
    assert steps(tmp_path / "b") == list(range(4, 13))
