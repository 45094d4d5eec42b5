import errno
import fcntl
import os
import signal
import time

import pytest

from pretrain.lease import Lease
from pretrain.runs.holder import holder
from pretrain.runs.search import find, is_run
from pretrain.runs.summary import at_work, summarise


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\nmax_steps: 40\ncheckpoint:\n  max_steps: 7\n")
    return tmp_path


def held(folder):
    """Forks a process that has the lease."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        lease = Lease(folder, "run")  # noqa: F841 - held
        os.write(writing, b"y")
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"y"
    os.close(reading)
    return pid


def test_the_kernel_says_who_works_there_and_nothing_is_taken(folder):
    pid = held(folder)
    try:
        found = holder(folder)
        assert (found.active, found.pid) == (True, pid)
        assert summarise(folder).state == "running"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert holder(folder).active is False
    assert summarise(folder).state == "interrupted"
    assert "killed" in summarise(folder).cause
    Lease(folder, "run").let_go()  # looking did not lock it


def test_a_file_system_without_locks_is_no_proof_of_anything(folder, monkeypatch):
    Lease(folder, "run").let_go()

    def no_locks(*arguments):
        raise OSError(errno.ENOLCK, "none")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    assert summarise(folder).state == "unknown"


@pytest.mark.parametrize(
    ("word", "state", "cause"),
    [
        ('{"state": "failed", "cause": "no room"}', "failed", "no room"),
        ('{"state": "interrupted", "cause": "SIGTERM"}', "interrupted", "SIGTERM"),
        ('{"state": "finished", "cause": ""}', "interrupted", ""),  # of fewer steps than are wanted now
        ('{"state"', "interrupted", "no last word: killed, or its host was lost"),
    ],
)
def test_the_last_word_counts(folder, word, state, cause):
    Lease(folder, "run").let_go()
    (folder / "ended.json").write_text(word)
    found = summarise(folder)
    assert (found.state, found.cause, found.step, found.max_steps) == (state, cause, 0, 40)


def test_time_at_work_leaves_out_the_time_between():
    rows = [{"began": 100.0}, {"began": 200.0, "previous_end": 150.0}, {"began": 300.0, "previous_end": None}]
    assert at_work(rows, 330.0) == 50.0 + 30.0
    assert at_work([], 330.0) == 0.0


def test_runs_are_found_below_folders_and_not_in_checkpoints(tmp_path):
    for name in ("a", "sweep/seed=1", "sweep/seed=2", "a/checkpoints/step-00000001", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "lock").touch()
        if name != "other":
            (tmp_path / name / "config.yaml").touch()
    (tmp_path / "sweep.json").write_text("{}")  # a shell names it with the folders beside it
    given = [str(tmp_path / name) for name in ("", "a", "sweep.json")]
    found = [str(path.relative_to(tmp_path)) for path in find(given)]
    assert found == ["a", "sweep/seed=1", "sweep/seed=2"]
    assert not is_run(tmp_path / "other")
