"""Trackers see a run's files, and the run sees nothing of them: real mirrors, services killed, servers that hang."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.trackers.process import GRACE_S
from tests.integration.runs import SMALL, kill_at, outcome, run, start, steps, wait
from tests.processes import children, gone, told, until
from tests.wandb_server import WandbServer

OFFLINE = ["logger=wandb", "logger.wandb.mode=offline"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, demo_cache: str) -> Path:
    """A run that nobody mirrors."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRETRAIN_CACHE", demo_cache)
        assert run([*SMALL, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nothing"))


def history(folder: Path) -> list[dict]:
    """The history rows in all of wandb's files, as its own reader prints them."""
    rows = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
        printed = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
        records = [json.loads(line) for line in printed.splitlines()]
        rows += [record["history"]["item"] for record in records if record["type"] == "history"]
    return rows


def ids(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("wandb/offline-run-*/*.wandb")}


def equals_file(rows: list[dict], folder: Path) -> None:
    """Each row of metrics.jsonl is there once, with its numbers."""
    truth = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["_step"] for row in rows] == [row["step"] for row in truth]
    for there, here in zip(rows, truth, strict=True):
        assert {name: there[name] for name in here if name != "step"} == {n: v for n, v in here.items() if n != "step"}
        assert there["speed/seconds"] > 0


def sync(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pretrain", "runs", "sync", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def mirrors(trainer: int) -> list[int]:
    """The mirror processes of ``trainer``."""
    return [pid for pid in children(trainer) if b"runs\0sync" in told(pid, "cmdline")]


def test_a_killed_and_resumed_run_is_one_history_without_doubles(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [*SMALL, *OFFLINE, f"run_dir={folder}"]
    assert kill_at(command, folder, 8)
    until(lambda: sync(folder).returncode == 0)  # once the killed run's mirror has left
    saved = [row["_step"] for row in history(folder)]
    assert saved == list(range(1, len(saved) + 1))
    assert 3 <= len(saved) <= 9
    assert len(saved) % 3 == 0, "rows beyond a checkpoint are told to nobody"
    assert run(command) == 0
    assert sync(folder).returncode == 0
    equals_file(history(folder), folder)
    assert ids(folder) == {f"run-{(folder / 'wandb_id').read_text()}"}
    assert outcome(folder) == outcome(plain)


def test_a_killed_mirror_changes_nothing_and_is_made_up_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run([*SMALL, "max_steps=60", f"run_dir={tmp_path / 'plain'}"]) == 0
    trainer = start([*SMALL, "max_steps=60", *OFFLINE, f"run_dir={folder}"])
    [mirror] = until(lambda: mirrors(trainer))
    assert os.getsid(mirror) == mirror != os.getsid(trainer)
    [service] = until(lambda: [pid for pid in children(mirror) if b"core" in told(pid, "comm")])
    until(lambda: list(folder.glob("wandb/offline-run-*/*.wandb")))
    os.kill(mirror, signal.SIGKILL)
    assert wait(trainer) == 0
    assert (folder / "log.txt").read_text().count("the mirror to wandb ended (killed by signal 9)") == 1
    until(lambda: gone(service))  # it does not outlive who it belongs to
    assert sync(folder).returncode == 0
    equals_file(history(folder), folder)
    assert outcome(folder) == outcome(tmp_path / "plain")


@pytest.mark.slow
def test_a_killed_service_ends_its_mirror_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer = start([*SMALL, "max_steps=60", *OFFLINE, f"run_dir={folder}"])
    [mirror] = until(lambda: mirrors(trainer))
    [service] = until(lambda: [pid for pid in children(mirror) if b"core" in told(pid, "comm")])
    until(lambda: list(folder.glob("wandb/offline-run-*/*.wandb")))
    os.kill(service, signal.SIGKILL)
    assert wait(trainer) == 0
    until(lambda: gone(mirror), GRACE_S + 60)
    assert re.search("the mirror to wandb ended|wandb may lack rows", (folder / "log.txt").read_text())
    assert sync(folder).returncode == 0
    equals_file(history(folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["hangs", "refuses"])
def test_a_server_that_does_not_answer_is_not_noticed(plain: Path, tmp_path: Path, monkeypatch, server: str) -> None:
    folder = tmp_path / "run"
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if server == "hangs":
            listening.listen(64)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        trainer = start([*SMALL, "logger=wandb", f"run_dir={folder}"])
        [mirror] = until(lambda: mirrors(trainer))
        until(lambda: steps(folder)[-1:] == [12] if (folder / "metrics.jsonl").exists() else False)
        began = time.monotonic()
        assert wait(trainer) == 0
        assert time.monotonic() - began < 90, "the end of a run waits for no tracker but a while"
        assert outcome(folder) == outcome(plain)
        assert "wandb may lack rows" in (folder / "log.txt").read_text()
        until(lambda: gone(mirror), GRACE_S + 60)
        failed = sync(folder, "--patience", "2")
        assert failed.returncode == 1
        assert failed.stderr.startswith("pretrain: error: wandb cannot be reached")
        assert failed.stderr.count("\n") == 1
    assert sync(folder, "--offline").returncode == 0
    equals_file(history(folder), folder)


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_has_everything_once(tmp_path: Path, monkeypatch) -> None:
    folder, runs = tmp_path / "run", {}
    command = [*SMALL, "logger=wandb", f"run_dir={folder}"]
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    with WandbServer(runs) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.port}")
        assert run([*command, "max_steps=6"]) == 0
        [rows] = runs.values()
        assert [row["_step"] for row in rows] == list(range(1, 7))
    first = list(rows)
    assert run(command) == 0  # it is away
    with open(folder / "trackers/wandb-online.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the run's mirror has given up
    assert [row["_step"] for row in rows] == list(range(1, 7))
    with WandbServer(runs, server.port):
        assert "6 rows to wandb-online" in sync(folder).stdout
        assert "0 rows to wandb-online" in sync(folder).stdout
    assert list(runs) == [(folder / "wandb_id").read_text()]
    assert rows[:6] == first
    equals_file(rows, folder)
    assert list(folder.glob("wandb/run-*")) == []


def test_the_mirror_of_a_killed_trainer_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer = start([*SMALL, *OFFLINE, "max_steps=100000", "loader.workers=1", f"run_dir={folder}"])
    [mirror] = until(lambda: mirrors(trainer))
    until(lambda: (folder / "metrics.jsonl").exists() and len(steps(folder)) > 4)
    os.kill(trainer, signal.SIGKILL)
    assert wait(trainer) == -signal.SIGKILL
    until(lambda: gone(mirror), GRACE_S + 60)


@pytest.mark.slow
def test_ctrl_c_reaches_the_run_and_not_its_mirror(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer = start([*SMALL, *OFFLINE, "max_steps=100000", f"run_dir={folder}"])
    [mirror] = until(lambda: mirrors(trainer))
    until(lambda: (folder / "metrics.jsonl").exists() and len(steps(folder)) > 4)
    os.killpg(trainer, signal.SIGINT)
    assert wait(trainer) == 130
    until(lambda: gone(mirror), GRACE_S + 60)
    assert sync(folder).returncode == 0
    equals_file(history(folder), folder)


def test_tensorboard_has_each_step_once(plain: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    folder = tmp_path / "run"
    command = [*SMALL, "logger=tensorboard", f"run_dir={folder}"]
    assert kill_at(command, folder, 7)
    assert "metrics also go to tensorboard (logger=none: nowhere else)" in (folder / "log.txt").read_text()
    assert run(command) == 0
    assert sync(folder).returncode == 0
    found = []
    for file in sorted(folder.glob("tensorboard/*")):
        for event in EventFileLoader(str(file)).Load():
            found += [(event.step, value.tensor.float_val[0]) for value in event.summary.value if value.tag == "loss"]
    (folder / "checkpoints/step-00000012").rename(folder / "set aside")
    assert "up to step 12; the run has gone back to step 9" in sync(folder).stdout
    (folder / "set aside").rename(folder / "checkpoints/step-00000012")
    truth = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in found] == [row["step"] for row in truth]
    assert [value for _, value in found] == pytest.approx([row["loss"] for row in truth], rel=1e-6)
    assert outcome(folder) == outcome(plain)
