"""One process group at a time, whoever removes lock files, and on file systems that know no locks."""

import errno
import fcntl
import os
import signal
import time

import pytest

from data.errors import InputError, RunError
from pretrain.lease import Lease


def holder(folder):
    """Forks a process that takes the lease and keeps it until it is killed; its id, None if it got none."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lease = Lease(folder, "run")  # noqa: F841 - held
            os.write(writing, b"y")
            time.sleep(60)
        except InputError:
            os.write(writing, b"n")
        finally:
            os._exit(0)
    os.close(writing)
    got = os.read(reading, 1)
    os.close(reading)
    if got == b"y":
        return pid
    os.waitpid(pid, 0)
    return None


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def compete(folder):
    """Tries to take the lease, keeps it until the other three were refused; writes down how it went."""
    folder.mkdir(exist_ok=True)
    try:
        lease = Lease(folder, "run")
    except InputError:
        (folder / f"lost-{os.getpid()}").touch()
    else:
        while len(list(folder.glob("lost-*"))) < 3:
            time.sleep(0.0005)
        lease.let_go()
        (folder / f"won-{os.getpid()}").touch()
    while len(list(folder.glob("*-*"))) < 4:  # all of them begin the next race at once
        time.sleep(0.0005)


def test_fifty_races_have_one_winner_each(tmp_path):
    runners = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for race in range(50):
                    compete(tmp_path / str(race))
                code = 0
            finally:
                os._exit(code)
        runners.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in runners] == [0] * 4
    winners = [[path.name for path in (tmp_path / str(race)).glob("won-*")] for race in range(50)]
    assert [len(names) for names in winners] == [1] * 50


def test_a_killed_owner_is_followed_at_once(tmp_path):
    pid = holder(tmp_path)
    assert pid is not None
    assert holder(tmp_path) is None
    end(pid)
    again = holder(tmp_path)
    assert again is not None
    end(again)


def test_removing_the_lock_file_lets_nobody_in(tmp_path):
    pid = holder(tmp_path)
    (tmp_path / "lock").unlink()
    assert holder(tmp_path) is None  # the directory is locked as well
    end(pid)


def test_an_owner_whose_place_was_taken_stops(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.EOPNOTSUPP, "no such locks")

    monkeypatch.setattr(fcntl, "flock", none)  # as where directories cannot be locked
    lease = Lease(tmp_path, "run")
    lease.hold()
    (tmp_path / "lock").unlink()
    lease.hold()
    assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
    (tmp_path / "lock").unlink()
    pid = holder(tmp_path)
    try:
        with pytest.raises(RunError, match=rf"lock' was removed, and process {pid} on .* works in this run directory"):
            lease.hold()
    finally:
        end(pid)


def test_a_file_system_that_does_not_say_is_asked_again(tmp_path, monkeypatch):
    lease, lockf, fails = Lease(tmp_path, "run"), fcntl.lockf, [errno.EIO]

    def ill(file, flags):
        if fails:
            raise OSError(fails.pop(), "Input/output error")
        return lockf(file, flags)

    (tmp_path / "lock").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "lockf", ill)
        with pytest.raises(OSError, match="Input/output error"):
            lease.hold()
        lease.hold()  # what was not locked is not taken for locked
    assert holder(tmp_path) is None
    assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("another", [False, True])
def test_an_owner_whose_folder_was_moved_stops(tmp_path, another):
    folder = tmp_path / "run"
    folder.mkdir()
    lease = Lease(folder, "run")
    lease.hold()
    folder.rename(tmp_path / "elsewhere")
    if another:
        folder.mkdir()
    for ask in (lease.hold, lease.stay):
        with pytest.raises(RunError, match="run' was moved or removed while the run worked in it"):
            ask()
    assert not (folder / "lock").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    monkeypatch.setattr(fcntl, "flock", none)
    with caplog.at_level("WARNING", "pretrain"):
        lease = Lease(tmp_path, "run")
    lease.hold()
    assert not lease.locking
    assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_file_removed_while_it_is_taken_is_taken_again(tmp_path, monkeypatch):
    lockf, removed = fcntl.lockf, []

    def late(file, flags):
        if not removed:
            removed.append(True)
            (tmp_path / "lock").unlink()
        return lockf(file, flags)

    monkeypatch.setattr(fcntl, "lockf", late)
    lease = Lease(tmp_path, "run")
    assert lease._is_there()
