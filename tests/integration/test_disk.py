"""Disks that fill up, become read-only or fail: training goes on while an older checkpoint stands."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pretrain import checkpoint
from pretrain.callbacks import edge
from tests.integration.ranks import run_together, start_together
from tests.integration.runs import SMALL, TEXT, outcome, run, start, wait
from tests.integration.small_disk import fill, on_small_disk, writable
from tests.processes import until

STANDS = "an older one stands"
LONG = [*SMALL, "max_steps=90", "evaluate.every_n_steps=10", "checkpoint.every_n_steps=10"]


def events(run_dir: Path) -> list[dict]:
    path = run_dir / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told_in(errors: Path, before: Callable[[], None] | None = None) -> Callable[[], None]:
    """What the forked run says on stderr goes to a file of its own, not to pytest's."""

    def prepare() -> None:
        sys.stderr = open(errors, "a", buffering=1)  # noqa: SIM115 - as long as the process lives
        if before:
            before()

    return prepare


def trouble(run_dir: Path, errors: Path, begin: Callable[[], None], end: Callable[[], None], said: str) -> None:
    """A run during which something becomes of the disk, which is over once the run has said ``said``."""
    pid = start([*LONG, f"run_dir={run_dir}"], told_in(errors))
    until(lambda: bool(checkpoint.published(run_dir / "checkpoints")), every=0.002)
    begin()
    until(lambda: errors.exists() and any(said in x and STANDS in x for x in errors.read_text().splitlines()))
    end()
    assert wait(pid) == 0
    assert checkpoint.find(run_dir).step == 90
    told = [row for row in events(run_dir) if row["event"].startswith("checkpoint")]
    assert told[0]["event"] == "checkpoint_failed"
    assert told[-1]["event"] == "checkpoint_again"
    assert len(told) < 20  # a bounded rate of tries
    first = next(number for number, row in enumerate(told) if row["event"] == "checkpoint_again")
    # Tried again 1, 2, 4, ... steps after it was known, not only when the next one is due.
    assert told[first]["checkpoint"] <= told[first - 1]["step"] + 2 ** (first - 1)
    assert not [p for p in (run_dir / "checkpoints").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("how", [pytest.param("full", marks=pytest.mark.slow), "read-only"])
def test_a_disk_that_is_full_or_read_only_for_a_while(tmp_path: Path, how: str) -> None:
    twin = tmp_path / "twin"
    assert run([*LONG, f"run_dir={twin}"]) == 0

    def body() -> None:
        disk = tmp_path / "disk"
        run_dir = disk / "run"
        if how == "full":
            held: list[Path] = []
            ends = [lambda: held.append(fill(disk)), lambda: held[0].unlink()]
            said = "No space left on device"
        else:
            root = run_dir / "checkpoints"
            ends = [lambda: writable(root, False), lambda: writable(root, True)]
            said = "Read-only file system"
        trouble(run_dir, tmp_path / "errors", ends[0], ends[1], said)
        assert outcome(run_dir) == outcome(twin)

    on_small_disk(tmp_path / "disk", "60m", body)


def test_a_file_system_that_is_away_for_a_moment_between_two_saves(tmp_path: Path) -> None:
    """As after a failover of NFS: neither the look at the lock nor the count of attempts ends the run."""
    run_dir, errors = tmp_path / "run", tmp_path / "errors"

    def sabotage() -> None:
        stat, pwrite, looks, edge._LOOK_S = os.stat, os.pwrite, [0], 0.0

        def stale(path: Any, *rest: Any, **more: Any) -> Any:
            looks[0] += path == run_dir / "lock"
            if path == run_dir / "lock" and 4 <= looks[0] < 7:
                raise OSError(errno.ESTALE, "Stale file handle")
            return stat(path, *rest, **more)

        def full(handle: int, *rest: Any) -> int:
            if 4 <= looks[0] < 7 and os.readlink(f"/proc/self/fd/{handle}").endswith("progress"):
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            return pwrite(handle, *rest)

        os.stat, os.pwrite = stale, full

    assert wait(start([*TEXT, f"run_dir={run_dir}"], told_in(errors, sabotage))) == 0
    said = " ".join(errors.read_text().split())
    assert said.count("cannot be looked at: [Errno 116] Stale file handle; the run goes on, and looks again") == 1
    assert said.count("'progress' cannot be written: [Errno 122] Disk quota exceeded") == 1


def test_what_an_untrained_model_gives_is_not_worth_a_run(tmp_path: Path) -> None:
    run_dir, errors = tmp_path / "run", tmp_path / "errors"
    run_dir.mkdir()
    (run_dir / "evaluations").write_text("in the way")
    arguments = [*SMALL, "evaluate.untrained=true", f"run_dir={run_dir}"]
    assert wait(start(arguments, told_in(errors))) == 0
    assert "what was measured before the first step cannot be written: File exists; the run goes on" in " ".join(
        errors.read_text().split()
    )


def test_no_room_is_found_before_the_first_step(tmp_path: Path) -> None:
    def body() -> None:
        disk, errors = tmp_path / "disk", tmp_path / "errors"
        assert wait(start([*SMALL, f"run_dir={disk / 'run'}"], told_in(errors))) == 2
        [line] = [x for x in errors.read_text().splitlines() if x.startswith("pretrain: error")]
        assert "are kept and one more is written before one goes; make room" in line
        assert not (disk / "run/metrics.jsonl").exists()

    on_small_disk(tmp_path / "disk", "900k", body)


def small_files() -> None:
    """Files of this process may not become large: a real error of write(), at the first tensors."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))


def broken_disk() -> None:
    """From the third checkpoint on the disk fails to keep what it took, as a dying one does."""
    real, count = os.fsync, [0]

    def fsync(handle: int) -> None:
        target = os.readlink(f"/proc/self/fd/{handle}")
        count[0] += target.endswith("model.safetensors")
        if count[0] > 2 and target.endswith("model.safetensors"):
            raise OSError(errno.EIO, "Input/output error")
        real(handle)

    os.fsync = fsync


@pytest.mark.parametrize(
    ("before", "published", "message"),
    [
        (small_files, [], "the checkpoint of step 3 cannot be written: [Errno 27] File too large; there is none yet"),
        (broken_disk, [6, 3], "step 12 cannot be written: [Errno 5] Input/output error; older ones are untouched"),
    ],
)
def test_the_first_and_the_last_save_must_succeed(
    tmp_path: Path, before: Callable[[], None], published: list[int], message: str
) -> None:
    errors, run_dir = tmp_path / "errors", tmp_path / "run"
    assert wait(start([*SMALL, f"run_dir={run_dir}"], told_in(errors, before))) == 1
    [line] = [x for x in errors.read_text().splitlines() if x.startswith("pretrain: error")]
    assert message in line
    assert [checkpoint.step_of(p) for p in checkpoint.published(run_dir / "checkpoints")] == published
    assert run([*SMALL, f"run_dir={run_dir}"]) == 0
    assert checkpoint.find(run_dir).step == 12


def over_quota() -> None:
    """What this process writes to the checkpoint of step 6 is over its quota."""
    real = os.write

    def write(handle: int, data: bytes) -> int:
        if "step-00000006" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return real(handle, data)

    os.write = write


@pytest.mark.slow
def test_one_of_two_processes_cannot_write_its_share(tmp_path: Path) -> None:
    twin, run_dir = tmp_path / "twin", tmp_path / "run"
    options = [*SMALL, "trainer.strategy=fsdp", "trainer.accelerator=cpu"]
    assert run_together(2, [*options, f"run_dir={twin}"]) == [0, 0]
    pids = start_together(2, [*options, f"run_dir={run_dir}"], {1: over_quota})
    assert [wait(pid, 240) for pid in pids] == [0, 0]
    told = events(run_dir)
    assert [row["event"] for row in told] == ["checkpoint_failed", "checkpoint_again"]
    assert told[0]["checkpoint"] == 6
    assert "cannot be written on process 1: [Errno 122]" in (run_dir / "log.txt").read_text()
    newest, _ = checkpoint.published(run_dir / "checkpoints")
    assert len(list(newest.glob("model-0000?-of-00002.safetensors"))) == 2
    assert not [p for p in (run_dir / "checkpoints").iterdir() if p.name.startswith(".")]
    assert outcome(run_dir) == outcome(twin)


@pytest.mark.parametrize("how", [pytest.param("full", marks=pytest.mark.slow), "read-only"])
def test_going_on_with_a_disk_in_trouble_ends_in_one_line(tmp_path: Path, how: str) -> None:
    """And harms nothing: with room again the same command goes on, with what was there."""

    def body() -> None:
        disk = tmp_path / "disk"
        run_dir, errors = disk / "run", tmp_path / "errors"
        assert run([*SMALL, "max_steps=6", f"run_dir={run_dir}"]) == 0
        (run_dir / "checkpoints/.step-00000009.part").mkdir()  # left by a kill
        arguments = [*SMALL, f"run_dir={run_dir}"]
        if how == "full":
            ballast = fill(disk)
        else:
            writable(run_dir / "checkpoints", False)
        assert wait(start(arguments, told_in(errors))) == 2
        told = errors.read_text()
        assert "Traceback" not in told
        assert told.splitlines()[-1].startswith("pretrain: error: "), told
        assert {"full": "No space left", "read-only": "Read-only file system"}[how] in told.splitlines()[-1]
        assert checkpoint.find(run_dir).step == 6
        if how == "full":
            ballast.unlink()
        else:
            writable(run_dir / "checkpoints", True)
        assert run(arguments) == 0
        assert checkpoint.find(run_dir).step == 12

    on_small_disk(tmp_path / "disk", "40m", body)
