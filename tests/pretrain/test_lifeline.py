"""Real processes on a line: one is killed, stopped, fails or leaves, and the others end soon and know why."""

import contextlib
import json
import os
import signal
import socket
import time

import pytest

from data.errors import RunError
from pretrain.lifeline import Lifeline, RankEnded

SILENCE_S = 1.0


def member(rank, world_size, folder, act, address="127.0.0.1"):
    """Forks rank ``rank``; what it ends with is written to ``folder/RANK``."""
    pid = os.fork()
    if pid:
        return pid
    os.environ["MASTER_ADDR"] = address
    line, found, code = Lifeline(rank, world_size, SILENCE_S), "left", 0
    try:
        with line:
            if rank == 0:
                port, secret = line.listen()
                (folder / ".address").write_text(json.dumps([port, secret]))
                (folder / ".address").rename(folder / "address")
            else:
                while not (folder / "address").exists():
                    time.sleep(0.005)
                line.join(*json.loads((folder / "address").read_text()))
            line.start()
            line.doing = f"computed step {rank}"
            time.sleep(SILENCE_S / 2)
            act(rank)
    except RankEnded as ended:
        found, code = str(ended), ended.code
    except Exception as error:  # noqa: BLE001 - told to the test
        found, code = f"own {type(error).__name__}: {error}", 7
    finally:
        with contextlib.suppress(Exception):
            (folder / str(rank)).write_text(found)
        os._exit(code)


def ends(folder, act, ranks=3, killed=(), address="127.0.0.1"):
    """Runs the ranks to their end; rank -> (exit code, what it ended with), and the seconds that it took."""
    pids = [member(rank, ranks, folder, act, address) for rank in range(ranks)]
    began, found = time.monotonic(), {}
    for rank, pid in enumerate(pids):
        if rank in killed:
            continue
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = folder / str(rank)
        found[rank] = (code, said.read_text() if said.exists() else "")
    seconds = time.monotonic() - began
    for rank in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[rank], signal.SIGKILL)
        os.waitpid(pids[rank], 0)
    return found, seconds


def test_all_leave(tmp_path):
    found, _ = ends(tmp_path, lambda rank: time.sleep(0.3 * rank))
    assert found == dict.fromkeys(range(3), (0, "left"))


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


no_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")


@pytest.mark.parametrize("address", [pytest.param("::1", marks=no_ipv6), "127.0.0.2"])
def test_hosts_meet_by_addresses_of_either_kind(tmp_path, address):
    """Neither is taken for a run of one host, so rank 0 listens as for others."""
    found, _ = ends(tmp_path, lambda rank: None, ranks=2, address=address)
    assert found == dict.fromkeys(range(2), (0, "left"))


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_rank_ends_the_others_at_once(tmp_path, which):
    found, seconds = ends(tmp_path, lambda rank: _die(rank, which), killed=[which])
    assert seconds < SILENCE_S + 2
    for code, said in found.values():
        assert code == 1
        assert said.startswith(f"rank {which} (")
        assert f"is gone since it computed step {which}: it was killed, or its host failed" in said


@pytest.mark.parametrize("which", [0, 2])
def test_a_stopped_rank_ends_the_others_after_the_silence(tmp_path, which):
    found, seconds = ends(tmp_path, lambda rank: _die(rank, which, signal.SIGSTOP), killed=[which])
    assert SILENCE_S < seconds < 5 * SILENCE_S + 2
    for code, said in found.values():
        assert code == 1
        assert said.startswith(f"rank {which} (")
        assert "has given no sign of life for" in said


@pytest.mark.parametrize("which", [0, 1])
def test_a_failure_is_told_and_its_exit_code_is_everybodys(tmp_path, which):
    def act(rank):
        if rank == which:
            raise RunError("https://ann:hunter22@host/shard.tar is cut short")
        time.sleep(60)

    found, seconds = ends(tmp_path, act)
    assert seconds < SILENCE_S + 2
    assert found.pop(which) == (7, "own RunError: https://ann:hunter22@host/shard.tar is cut short")
    for code, said in found.values():
        assert code == 1
        assert "ended: https://***@host/shard.tar is cut short" in said
        assert said.startswith(f"rank {which} (process ")


def test_an_echo_of_another_ranks_death_names_the_dead(tmp_path):
    def act(rank):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.1)
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")

    found, _ = ends(tmp_path, act, killed=[1])
    for code, said in found.values():
        assert code == 1
        assert said.startswith("rank 1 (process ")
        assert "is gone" in said


def test_a_main_thread_that_no_exception_reaches_ends_with_the_process(tmp_path, capfd):
    def act(rank):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    found, seconds = ends(tmp_path, act, ranks=2, killed=[1])
    assert found[0] == (1, "")
    assert seconds < 10
    assert "pretrain: error: rank 1 (process " in capfd.readouterr().err


def test_a_job_that_is_stopped_as_a_whole_accuses_nobody(tmp_path):
    pids = [member(rank, 2, tmp_path, lambda rank: time.sleep(4 * SILENCE_S)) for rank in range(2)]
    time.sleep(1.5 * SILENCE_S)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(2.5 * SILENCE_S)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]


def test_a_stranger_is_not_heard(tmp_path):
    def act(rank):
        if rank:
            time.sleep(SILENCE_S)
            return
        port, _ = json.loads((tmp_path / "address").read_text())
        for text in (
            b'{"secret": "guess", "rank": 1, "end": {"text": "lies", "code": 3}}\n',
            b"\xff\n",
            b"[" * 60_000 + b"\n",
            b"x" * 200_000,
        ):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(text)
        time.sleep(SILENCE_S)

    found, _ = ends(tmp_path, act, ranks=2)
    assert found == {0: (0, "left"), 1: (0, "left")}


def _die(rank, which, number=signal.SIGKILL):
    if rank == which:
        os.kill(os.getpid(), number)
    time.sleep(60)


def test_nobody_there(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(RunError, match=r"rank 1 \(process \d+ on .*\) cannot reach rank 0 at 127.0.0.1:1: Connection"):
        Lifeline(1, 2, 1.0).join(1, "")


def test_what_a_killed_rank_has_forked_does_not_keep_it_alive(tmp_path):
    def act(rank):
        if rank == 1:
            if os.fork() == 0:
                time.sleep(10 * SILENCE_S)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    found, seconds = ends(tmp_path, act, ranks=2, killed=[1])
    assert "is gone" in found[0][1]
    assert seconds < SILENCE_S + 2
