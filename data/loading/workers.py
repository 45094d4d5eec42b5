"""Processes that make units: worker w of k makes units w, w + k, ... and hands them on in that order."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from data.errors import RunError
from data.loading import parcel, watch
from data.loading.transport import Slab, copied, lent
from data.loading.unit import Unit
from data.loading.units import Units, describe

_FORK = get_context("fork")  # streams, prepares and shared memory are inherited, not sent
_ORPHAN_S = 5.0  # how often a worker that waits looks whether the trainer is still there
_LENT_STEPS = 2  # of which the trainer may hold units without a copy: the one it computes, and the one it has asked for
_NUMBER = 4  # bytes of a slab's number in the pipe


class Worker:
    """One process and the way from it to this one.

    Args:
        number, count: which of how many.
        units: what there is to make.
        ahead: parcels that it may be ahead of the trainer, beside those that the trainer holds.
        seat: where it notes what it does.
        others: the workers before it; it lets go of what it inherits of them.
    """

    def __init__(
        self, number: int, count: int, units: Units, ahead: int, seat: watch.Seat, others: list[Worker]
    ) -> None:
        self.number, self.seat, self._tasks = number, seat, units.tasks
        # One to write to while others wait to be taken and the trainer holds some. Those in the pipe are free.
        self._lent, self._most = 0, _LENT_STEPS * -(-units.per_step // count)
        self._taken: deque[Unit] = deque()  # of the parcel that came last
        self._slabs = [Slab() for _ in range(ahead + 1 + self._most)]
        asking, giving = os.pipe()
        self._free = os.fdopen(giving, "wb", buffering=0)
        for place in range(len(self._slabs)):
            self._give_back(place)
        self._results, sending = _FORK.Pipe(duplex=False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._results.close()
            for other in others:
                other._results.close()
            _run(self._work, sending, asking, range(number, len(units), count), units)
        os.close(asking)
        sending.close()  # the worker holds the only one: its end is the end of the file

    def _work(self, sending: Connection, asking: int, numbers: range, units: Units) -> None:
        trainer, free = os.getppid(), select.poll()
        free.register(asking, select.POLLIN)
        _leave_signals_to_the_parent()
        for task in units.tasks.values():
            task.stream.close()  # it opens what it reads
        units.every = numbers.step
        places: list[int] = []
        large = parcel.bytes_each(len(self._slabs))
        slow: set[int] = set()  # which micro-batches of a step took long: what is ready does not wait for them
        made = 0
        while made < len(numbers):
            while not free.poll(0 if places else _ORPHAN_S * 1e3):
                if places:
                    break
                if os.getppid() != trainer:
                    return
            else:
                given = os.read(asking, _NUMBER * len(self._slabs))
                places += (int.from_bytes(given[at : at + _NUMBER], "little") for at in range(0, len(given), _NUMBER))
            place = places.pop()  # the one given back last: more of it may still be in the processor's caches
            together = parcel.Parcel(self._slabs[place], large)
            while True:
                begun, number = time.perf_counter(), numbers[made]
                together.add(units.make(number, self.seat, together.memory))
                late = time.perf_counter() - begun > parcel.LONG_S
                (slow.add if late else slow.discard)(number % units.per_step)
                made += 1
                if together.full or made == len(numbers) or numbers[made] % units.per_step in slow:
                    break
            packed = together.packed()
            self.seat.turn_to(watch.HANDING_ON)
            sending.send_bytes(pickle.dumps((place, packed.described, packed.spans, packed.size), protocol=5))
        self.seat.note(watch.IDLE)

    def take(self, pinned: bool) -> Unit:
        """Its next unit; waits for it.

        Raises:
            RunError: the worker has ended.
        """
        if not self._taken:
            self._taken.extend(self._receive(pinned))
        return self._taken.popleft()

    def _receive(self, pinned: bool) -> list[Unit]:
        """The units of its next parcel.

        Raises:
            RunError: the worker has ended.
        """
        try:
            place, described, spans, size = pickle.loads(self._results.recv_bytes())  # noqa: S301 - our own process's
        except (EOFError, ConnectionResetError):
            raise RunError(f"{self._end()}; the same command continues") from None
        memory = self._slabs[place].memory(size)
        units: list[Unit]
        if pinned or self._lent == self._most:
            units = copied(described, spans, memory, pinned)
            self._give_back(place)
        else:
            self._lent += 1
            units = lent(described, spans, memory, lambda: self._give_back(place, 1))
        return units

    def _give_back(self, place: int, lent: int = 0) -> None:
        self._lent -= lent
        with contextlib.suppress(ValueError, BrokenPipeError):  # closed, or the worker is gone
            self._free.write(place.to_bytes(_NUMBER, "little"))

    def _end(self) -> str:
        code = self.reap(5.0)
        if code is None:
            return f"loader worker {self.number} (process {self.pid}) hands nothing on any more"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hints = {
            -signal.SIGKILL: " (out of memory?)",
            -signal.SIGBUS: " (a file that was cut, or a disk that fails?)",
            1: "; its error stands above",
        }
        doing = describe(self.seat.doing(), self._tasks)
        return (
            f"loader worker {self.number} (process {self.pid}) {how}{hints.get(code, '')}; the last it did: it {doing}"
        )

    def reap(self, seconds: float) -> int | None:
        """Waits for its end: the exit code, negative for a signal; None if it still lives after ``seconds``."""
        end = time.monotonic() + seconds
        while True:
            try:
                done, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                return None
            time.sleep(0.002)

    def kill(self) -> None:
        """Ends it, also where it is stopped by a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Lets go of what connects it with this process."""
        self._results.close()
        self._free.close()
        self._taken.clear()  # what lies in a slab would keep itself there
        for slab in self._slabs:
            slab.close()


class Crew:
    """The workers of a loader.

    Args:
        units: what they make.
        count: how many, at least 1.
        ahead: units that they may be ahead, all together.
        pinned: hand on in pinned memory.
    """

    def __init__(self, units: Units, count: int, ahead: int, pinned: bool) -> None:
        self.pinned, self._turn = pinned, 0
        self.workers: list[Worker] = []
        for number, seat in enumerate(watch.seats(count)):
            self.workers.append(Worker(number, count, units, -(-ahead // count), seat, list(self.workers)))

    @property
    def next(self) -> Worker:
        """Who makes the unit that is taken next."""
        return self.workers[self._turn % len(self.workers)]

    def __iter__(self) -> Iterator[Unit]:
        while True:
            unit = self.next.take(self.pinned)
            self._turn += 1
            yield unit

    def close(self) -> None:
        """Ends the workers. They ignore signals meant for the trainer, so nothing less than SIGKILL does."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.reap(2.0)  # one that waits for a dead disk ends when the disk answers; nobody waits for that
            worker.close()


def _leave_signals_to_the_parent() -> None:
    # Ctrl-C, a terminal's end and a scheduler's signals reach every process of the job; the trainer decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run(work: Any, *arguments: Any) -> NoReturn:
    """The whole life of a forked process: nothing of the parent's may go on in it."""
    code = 1
    try:
        work(*arguments)
        code = 0
    except BrokenPipeError:  # the trainer is gone
        pass
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
