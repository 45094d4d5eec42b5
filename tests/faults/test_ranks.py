"""Two processes: one is killed, stopped, fails or is signalled. Both end soon, with the cause, and can go on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import RunError
from pretrain import module
from pretrain.run import RunDirectory
from tests.faults.campaign import codes_of, kill_all, newest_step, steps_of
from tests.faults.recipes import recipe
from tests.integration.ranks import start_together
from tests.integration.runs import outcome
from tests.processes import children

COMMAND = [*recipe("mlm_tiny"), "interruption.silence_s=2", "max_steps=30"]
ENDLESS = [*COMMAND, "max_steps=100000"]


def training(run_dir: Path, command: list[str], step: int = 3) -> list[int]:
    """Starts two ranks; their ids once they have come to ``step``."""
    pids = start_together(2, [*command, f"run_dir={run_dir}"])
    end = time.monotonic() + 60
    while (max(steps_of(run_dir), default=0)) < step:
        assert time.monotonic() < end, "it does not even train"
        time.sleep(0.01)
    return pids


def said(tmp_path: Path) -> str:
    return (tmp_path / "stderr").read_text()


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_rank_is_named_and_the_run_goes_on_to_the_same_end(tmp_path: Path, which: int) -> None:
    assert codes_of(start_together(2, [*COMMAND, f"run_dir={tmp_path / 'straight'}"])) == [0, 0]
    pids = training(tmp_path / "run", COMMAND, 10)
    began = time.monotonic()
    kill_all([pids[which]])
    codes = codes_of(pids)
    assert (codes[which], codes[1 - which]) == (-signal.SIGKILL, 1)
    assert time.monotonic() - began < 90
    assert f"pretrain: error: rank {which} (process {pids[which]} on " in said(tmp_path)
    assert "it was killed, or its host failed" in said(tmp_path)
    assert codes_of(start_together(2, [*COMMAND, f"run_dir={tmp_path / 'run'}"])) == [0, 0]
    assert outcome(tmp_path / "run") == outcome(tmp_path / "straight")


def test_a_stopped_rank_is_named_and_ends_the_other(tmp_path: Path) -> None:
    pids = training(tmp_path / "run", ENDLESS)
    began = time.monotonic()
    kill_all([pids[1]], signal.SIGSTOP)
    assert codes_of([pids[0]]) == [1]
    assert time.monotonic() - began < 90
    assert f"pretrain: error: rank 1 (process {pids[1]} on " in said(tmp_path)
    assert "has given no sign of life for" in said(tmp_path)
    kill_all([pids[1]])
    codes_of([pids[1]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_stops_both_at_one_step(tmp_path: Path, number: signal.Signals) -> None:
    pids = training(tmp_path / "run", ENDLESS)
    kill_all([pids[1]], number)
    assert codes_of(pids) == [143, 143]
    assert newest_step(tmp_path / "run") == max(steps_of(tmp_path / "run"))
    done = re.findall(r"stopped by \w+ after step (\d+);", said(tmp_path))
    assert done == [str(newest_step(tmp_path / "run"))] * 2


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "fault", [RunError("no memory left on the device"), pytest.param(ValueError("a bug"), marks=pytest.mark.slow)]
)
def test_a_rank_that_fails_ends_the_other_with_its_reason(
    tmp_path: Path, which: int, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = module.Pretraining.training_step

    def failing(self: module.Pretraining, batch: object, index: int) -> None:
        if self.steps_done == 9 and self.trainer.global_rank == which:
            raise fault
        step(self, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Pretraining, "training_step", failing)
    began = time.monotonic()
    pids = start_together(2, [*COMMAND, f"run_dir={tmp_path / 'run'}"])
    assert codes_of(pids) == [1, 1]
    assert time.monotonic() - began < 120
    assert f"pretrain: error: rank {which} (process {pids[which]} on " in said(tmp_path)
    assert str(fault) in said(tmp_path)
    assert newest_step(tmp_path / "run") in (0, 7)  # of whole steps alone
    assert {row["step"] for row in RunDirectory(str(tmp_path / "run"), -1).rows("metrics.jsonl")} == set(range(1, 10))


@pytest.mark.slow
def test_the_own_launcher_ends_its_ranks_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pretrain", *ENDLESS, f"run_dir={tmp_path / 'run'}", "trainer.devices=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def begun(step: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        end = time.monotonic() + 90
        while max(steps_of(tmp_path / "run"), default=0) < step and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        return process

    process = begun(3)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 143, error[-2000:]
    saved = newest_step(tmp_path / "run")
    assert saved == max(steps_of(tmp_path / "run"))

    process = begun(saved + 3)
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"rank 1 (process {ranks[1]} on " in error
    assert not any(Path(f"/proc/{child}").exists() for child in ranks)


@pytest.mark.parametrize("which", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_never_comes_is_not_waited_for_for_ever(tmp_path: Path, which: int) -> None:
    short = ["trainer.timeout_s=3", "loader.deadline_s=2", "loader.warn_after_s=1"]
    nobody = {1 - which: lambda: os._exit(9)}
    pids = start_together(2, [*COMMAND, *short, f"run_dir={tmp_path / 'run'}"], nobody)
    codes = codes_of(pids)
    assert (codes[1 - which], codes[which]) == (9, 1)
    line = said(tmp_path).splitlines()[-1]
    assert re.fullmatch(
        rf"pretrain: error: rank {which} \(process {pids[which]} on \S+\) waited \d+ s for 2 ranks to meet at "
        r"127\.0\.0\.1:\d+, and not all came: .*\(longer: trainer\.timeout_s\)",
        line,
    )


def test_a_rank_with_other_held_out_shards_is_refused_by_name(
    tmp_path: Path, cache_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under FSDP it would take another number of forward passes, and all would hang at the first measurement."""
    for host in ("first", "second", "third"):
        (tmp_path / host).mkdir()
    shards = sorted(Path(cache_folder).glob("*/prose-*.tar"))
    for host, own in (("first", shards), ("second", shards[1:]), ("third", shards)):
        for shard in own:
            shutil.copy(shard, tmp_path / host / f"{'other-' if host == 'third' else ''}{shard.name}")
    command = [*COMMAND, "max_steps=2", "tasks.mlm.heldout=${oc.env:COPY}/*.tar", f"run_dir={tmp_path / 'run'}"]
    command += ["trainer.strategy=fsdp", "trainer.accelerator=cpu"]
    monkeypatch.setenv("COPY", str(tmp_path / "first"))
    for host, how in (
        ("second", r"\d+ shards with \d+ samples, and \d+ "),
        ("third", "shards of other names or sizes"),
    ):
        other = {1: lambda host=host: os.environ.update(COPY=str(tmp_path / host))}
        assert codes_of(start_together(2, command, other)) == [2, 2]
        assert re.search(
            rf"rank 1 on \S+ finds other data than rank 0 for held-out source 'mlm': {how}[^;]*; "
            r"let all hosts have the same shards, and give all the same command\n",
            said(tmp_path),
        )
    assert codes_of(start_together(2, command)) == [0, 0]


def test_a_rank_with_other_shards_is_refused_by_name(
    tmp_path: Path, cache_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts, each with a copy of its own; that of the second one lacks a shard."""
    for host in ("first", "second"):
        (tmp_path / host).mkdir()
    for number, shard in enumerate(sorted(Path(cache_folder).glob("*/prose-*.tar"))):
        for host in ("first", "second")[: 1 if number == 0 else 2]:
            shutil.copy(shard, tmp_path / host)
    monkeypatch.setenv("COPY", str(tmp_path / "first"))
    command = [*COMMAND, "max_steps=4", "tasks.mlm.source=${oc.env:COPY}/*.tar", f"run_dir={tmp_path / 'run'}"]
    other = {1: lambda: os.environ.update(COPY=str(tmp_path / "second"))}
    assert codes_of(start_together(2, command, other)) == [2, 2]
    assert re.search(
        r"rank 1 on \S+ finds other data than rank 0 for task 'mlm': source 'mlm' has other shards, 1 missing "
        r"\(prose-\S+\.tar\); let all hosts have the same shards, and give all the same command\n",
        said(tmp_path),
    )
    assert codes_of(start_together(2, command)) == [0, 0]
    # What rank 0 has taken up on purpose the others take up with it.
    monkeypatch.setenv("COPY", str(tmp_path / "second"))
    assert codes_of(start_together(2, [*command, "max_steps=6", "allow_changes=[data,max_steps]"])) == [0, 0]
    assert steps_of(tmp_path / "run") == list(range(1, 7))
