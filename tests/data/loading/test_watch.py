import ctypes
import logging
import os
import re
import signal
import threading
import time

import numpy as np
import pytest
import torch

from data.errors import InputError, RunError
from data.loading import watch
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.shards import index
from data.store import remote
from data.store.cache import Cache
from data.store.store import Store
from data.stream import Stream
from tests.data.shards.tars import write
from tests.faulty_store import FaultyStore
from tests.processes import children

STUCK = "a-00005"


def sleep_for_ever(fifo):
    time.sleep(1000)


def read_what_nobody_writes(fifo):
    os.close(os.open(fifo, os.O_RDONLY))


def wait_where_no_signal_reaches(fifo):
    lock = ctypes.create_string_buffer(64)  # a pthread mutex; locking it twice is waiting for oneself
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)


class Lengths:
    """Hangs at one sample."""

    def __init__(self, hang, fifo):
        self.hang, self.fifo = hang, fifo

    def __call__(self, sample, rng, training):
        if sample.key == STUCK and self.hang:
            self.hang(self.fifo)
        return len(sample.members["txt"])

    def collate(self, items):
        return {"lengths": torch.tensor(items)}


@pytest.fixture
def loader(shards, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def make(hang, workers, deadline_s=1.0, steps=100):
        task = TaskData(Stream("one", shards("a", 23), 0), Lengths(hang, tmp_path / "fifo"), 4, 2)
        return StepLoader({"one": task}, 0, steps, workers=workers, warn_after_s=0.2, deadline_s=deadline_s)

    return make


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "pretrain")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("hang", [sleep_for_ever, read_what_nobody_writes])
def test_a_stuck_sample_is_named_and_ends_the_run_at_the_deadline(loader, warnings, hang, workers):
    stalled = loader(hang, workers)
    stream = stalled.units.tasks["one"].stream
    places = stream.locate(np.arange(46))
    position = next(p for p in range(23) if stream.identity(places[p])[1] == STUCK)
    shard = stream.identity(places[position])[0]
    began = time.monotonic()
    steps = []
    with pytest.raises(RunError) as error:
        steps.extend(batch.step for batch in stalled)
    assert steps == list(range(position // 4))
    assert not children(os.getpid())
    assert 1 < time.monotonic() - began < 60
    who = r"; loader worker \d \(process \d+, (?:sleeping|running)\)" if workers else " and"
    task = rf"\(task 'one', position {position}, {position % 2} of 2 samples of its micro-batch are done\)"
    what = (
        rf"rank 0 waits for step {position // 4 + 1}{who} prepares sample '{STUCK}' of shard '{shard}' for \d s {task}"
    )
    assert 1 <= len(warnings()) <= 3  # at 0.2, 0.4 and 0.8 s, if it woke in time
    for line in warnings():
        assert re.fullmatch(rf"waiting for data for \d s: {what}", line), line
    message = rf"no data for 1 s, loader.deadline_s=1: {what}; the same command continues"
    assert re.fullmatch(message, str(error.value)), error.value


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("prepare", [Lengths(None, None), RawPrepare(["txt"])])
def test_a_transfer_that_takes_longer_says_what_to_raise(tmp_path, workers, prepare, request):
    request.addfinalizer(remote.end)
    index.load(write(tmp_path / "a.tar", [("k.txt", bytes(5_000_000))]))
    with FaultyStore(tmp_path) as server:
        store = Store(Cache(tmp_path / "cache", "20MB"))
        task = TaskData(Stream("one", f"{server.url}/slow/a.tar", 0, store=store), prepare, 1)
        loader = StepLoader({"one": task}, 0, 1, workers=workers, warn_after_s=0.5, deadline_s=1.5)
        hint = r"if a shard is still being transferred, raise loader.deadline_s \(and trainer.timeout_s above it\)"
        with pytest.raises(RunError, match=rf"no data for \d s, .*; {hint}; the same command continues$"):
            list(loader)
        store.close()


@pytest.mark.parametrize("which", [0, 1])
def test_a_worker_that_is_stopped_is_named(loader, warnings, which):
    stalled = loader(None, 2, steps=100_000)  # more than it makes before it is stopped
    steps = iter(stalled)
    for _ in range(3):
        next(steps)
    processes = stalled.processes
    os.kill(processes[which], signal.SIGSTOP)
    with pytest.raises(RunError, match=rf"loader worker {which} \(process {processes[which]}, stopped by a signal\)"):
        list(steps)
    assert not children(os.getpid())


def test_a_worker_that_goes_on_in_time_is_only_warned_of(loader, warnings):
    stalled = loader(None, 2, deadline_s=60)
    steps = iter(stalled)
    next(steps)
    os.kill(stalled.processes[0], signal.SIGSTOP)
    timer = threading.Timer(0.7, os.kill, (stalled.processes[0], signal.SIGCONT))
    timer.start()
    assert [batch.step for batch in steps] == list(range(1, 100))
    assert warnings()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_named(loader, workers):
    stalled = loader(None, workers)
    steps = iter(stalled)
    next(steps)
    processes = stalled.processes
    os.kill(processes[-1], signal.SIGKILL)
    with pytest.raises(RunError, match=rf"worker {workers - 1} \(process {processes[-1]}\) was ended by SIGKILL \(out"):
        list(steps)
    assert not children(os.getpid())


def test_workers_end_with_a_trainer_that_is_killed(loader):
    stalled = loader(None, 2)
    reading, writing = os.pipe()
    trainer = os.fork()
    if trainer == 0:
        steps = iter(stalled)
        next(steps)
        os.write(writing, " ".join(map(str, stalled.processes)).encode())
        time.sleep(1000)
    workers = [int(pid) for pid in os.read(reading, 100).split()]
    assert len(workers) == 2
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)
    end = time.monotonic() + 20
    while [pid for pid in workers if watch.process_state(pid) not in ("dead", "state unknown")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    os.close(reading)
    os.close(writing)


def test_an_error_of_a_prepare_is_printed_where_it_happened(loader, capfd):
    def fail(fifo):
        raise ZeroDivisionError("of a user's own prepare")

    with pytest.raises(RunError, match=r"worker 0 \(process \d+\) ended with code 1; its error stands above"):
        list(loader(fail, 1))
    assert "of a user's own prepare" in capfd.readouterr().err
    with pytest.raises(ZeroDivisionError):
        list(loader(fail, 0))


def test_where_no_signal_reaches_the_process_ends_with_the_message(loader, tmp_path):
    stalled = loader(wait_where_no_signal_reaches, 0)
    stalled._watchdog.grace_s = 0.5
    errors = tmp_path / "errors"
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        logging.getLogger("pretrain").addHandler(logging.StreamHandler(open(2, "w", closefd=False)))  # noqa: SIM115
        for _ in stalled:
            pass
        os._exit(0)
    end = time.monotonic() + 20
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.02)
    assert ended[0], os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(ended[1]) == 1
    text = errors.read_text()
    assert f"prepares sample '{STUCK}'" in text.splitlines()[-1]
    assert "deadline_s=1" in text.splitlines()[-1]


def test_times_must_be_in_order():
    for warn, deadline in ((5, 5), (0, 5), (7, 3)):
        with pytest.raises(InputError, match=r"loader.warn_after_s=\d is not between 0 and loader.deadline_s=\d"):
            watch.Watchdog(str, warn, deadline)


def test_what_is_not_about_a_sample_is_named_too():
    def shard(source, number):
        return f"s{source}.tar", number % 10

    seat = watch.seats(1)[0]
    assert watch.activity(seat.doing(), "t", shard) == "has nothing to do"
    seat.note(watch.COLLATING, 1, 7)
    assert seat.doing().task == 1
    assert watch.activity(seat.doing(), "t", shard) == "collates 7 samples of task 't' for 0 s"
    seat.reading(99, 2, 34, 5)
    found = watch.activity(seat.doing(), "t", shard)
    assert found.startswith("reads sample number 4 of shard 's2.tar' for 0 s (task 't', position 99, 5 of 7 ")
    seat.preparing(99, 2, 34, 5, "é" * 200)
    assert seat.doing().key.startswith("é" * 90)
