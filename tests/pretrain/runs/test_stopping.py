"""Whom a run is stopped by, where the file system has no locks to tell who works there."""

import errno
import fcntl
import os
import signal
import socket
import time

import pytest

from data.errors import RunError
from pretrain.lease import Lease
from pretrain.runs import holder, stopping
from pretrain.runs.stopping import stop
from tests.processes import until


def no_locks(*arguments):
    raise OSError(errno.ENOLCK, "none")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def forked():
    """Forks a process that does something and then sleeps; they are ended with the test."""
    pids = []

    def fork(then):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            then()
            time.sleep(60)
            os._exit(0)
        pids.append(pid)
        return pid

    yield fork
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def worker(folder, forked, monkeypatch):
    """A process that has the run directory, as seen from where there are no locks."""
    leases = []
    pid = forked(lambda: leases.append(Lease(folder, "run")))
    until(lambda: (folder / "lock").exists() and str(pid) in (folder / "lock").read_text())
    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    return pid


def ended(pid):
    """Whether it has, without taking its end away from who waits for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_the_process_that_has_the_lock_file_open_is_asked(folder, worker):
    assert stop(folder, 0) == f"process {worker} was asked to stop"
    until(lambda: ended(worker))


def test_a_run_that_left_its_last_word_has_ended(folder, worker):
    (folder / "ended.json").write_text('{"state": "failed", "cause": "no room"}')
    assert stop(folder, 5) == "nobody is at work in it"
    time.sleep(0.1)
    assert not ended(worker)


def test_another_process_of_the_same_number_is_left_alone(folder, worker, forked):
    stranger = forked(lambda: None)
    (folder / "lock").write_text(f"process {stranger} on {socket.gethostname()}\n")
    assert stop(folder, 5) == "nobody is at work in it"
    time.sleep(0.1)
    assert not ended(stranger)


def test_where_it_cannot_be_told_that_is_said(folder, worker, monkeypatch, tmp_path):
    monkeypatch.setattr(holder, "PROC", tmp_path / "none")
    with pytest.raises(RunError, match=rf"no locks, and whether process {worker} still .* `kill -TERM {worker}`"):
        stop(folder, 5)
    assert not ended(worker)
    assert not (folder / "stop-asked").exists()


def test_a_slurm_that_does_not_answer_is_said_and_leaves_no_mark(folder, monkeypatch, tmp_path):
    scancel = tmp_path / "scancel"
    scancel.write_text("#!/bin/sh\nexec sleep 60\n")
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(stopping, "_SLURM_S", 0.2)
    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    (folder / "lock").write_text("process 7 on elsewhere\n")
    (folder / "starts.jsonl").write_text('{"job": "12"}\n')
    with pytest.raises(RunError, match=r"'scancel --signal=TERM 12' does not answer within 0.2 s"):
        stop(folder, 5)
    assert not (folder / "stop-asked").exists()
