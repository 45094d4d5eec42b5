"""Who is late, with what, and for how long: workers note what they do, and a thread watches how long a step waits.

A read from a mount that died, a decoder that hangs, a worker that was stopped: without this the run would end with the
timeout of another rank's collective, which names none of them.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from data.errors import InputError, RunError

log = logging.getLogger("pretrain")

IDLE, PLANNING, READING, PREPARING, COLLATING, HANDING_ON = range(6)
_WORDS = {PLANNING: "looks up the places", COLLATING: "collates", HANDING_ON: "waits for the trainer to take"}
_NUMBERS = 8  # phase, task, position, source, number, since (ns), samples done, samples in all
NUMBER = 4  # which of them that is
SOURCE_BITS = 48  # of a block's sample its source is above so many bits of its number
_KEY = 192  # bytes of the sample's key that are kept
_ROW = _NUMBERS * 8 + _KEY


class Doing(NamedTuple):
    """What a process is at; ``since`` by the monotonic clock, seconds; ``key`` is "" while the sample is read.

    ``done`` is -1 while samples are read together; ``position`` is that of the first of them then.
    """

    phase: int
    task: int
    position: int
    source: int
    number: int
    since: float
    done: int
    size: int
    key: str


class Seat:
    """Where one process notes what it does; another one may look at any time. Costs well under a microsecond."""

    def __init__(self, memory: memoryview) -> None:
        self.numbers = memory[: _NUMBERS * 8].cast("q")
        self._key = memory[_NUMBERS * 8 :]

    def note(self, phase: int, task: int = 0, size: int = 0) -> None:
        """A phase that is not about one sample: of a micro-batch of ``size`` samples of task number ``task``."""
        numbers = self.numbers
        numbers[0], numbers[1], numbers[5], numbers[6], numbers[7] = phase, task, time.monotonic_ns(), 0, size

    def turn_to(self, phase: int) -> None:
        """Another phase of the same micro-batch."""
        numbers = self.numbers
        numbers[0], numbers[5] = phase, time.monotonic_ns()

    def reading(self, position: int, source: int, number: int, done: int) -> None:
        """The sample at ``position`` is read, the next after ``done`` of its micro-batch."""
        numbers = self.numbers
        numbers[0], numbers[2], numbers[3], numbers[4] = READING, position, source, number
        numbers[5], numbers[6] = time.monotonic_ns(), done

    def reading_block(self, position: int) -> None:
        """A micro-batch is read whose first sample stands at ``position``.

        Which sample of it, is for the reader to write to ``numbers[NUMBER]``, see :data:`SOURCE_BITS`.
        """
        numbers = self.numbers
        numbers[0], numbers[2], numbers[NUMBER], numbers[5], numbers[6] = READING, position, 0, time.monotonic_ns(), -1

    def preparing(self, position: int, source: int, number: int, done: int, key: str) -> None:
        """The sample at ``position``, called ``key``, is there and is prepared, the next after ``done`` others."""
        raw = key.encode("utf-8", "replace")[: _KEY - 1] + b"\0"
        self._key[: len(raw)] = raw
        self.reading(position, source, number, done)
        self.numbers[0] = PREPARING

    def doing(self) -> Doing:
        """What was noted last."""
        phase, task, position, source, number, since, done, size = self.numbers.tolist()
        if done < 0:
            source, number = divmod(number, 1 << SOURCE_BITS)
        key = bytes(self._key).split(b"\0")[0].decode("utf-8", "replace") if phase == PREPARING else ""
        return Doing(phase, task, position, source, number, since / 1e9, done, size, key)


def seats(count: int) -> list[Seat]:
    """Seats for ``count`` processes, shared with all that are forked from this one from now on."""
    memory = memoryview(mmap.mmap(-1, count * _ROW))
    return [Seat(memory[n * _ROW : (n + 1) * _ROW]) for n in range(count)]


def activity(doing: Doing, task: str, shard: Callable[[int, int], tuple[str, int]]) -> str:
    """``doing`` in words.

    Args:
        doing: what a seat says.
        task: name of its task.
        shard: (source, number of a sample) -> (name of its shard, its number there), without reading anything.
    """
    if doing.phase == IDLE:
        return "has nothing to do"
    since = f"for {max(0.0, time.monotonic() - doing.since):.0f} s"
    if doing.phase in _WORDS:
        return f"{_WORDS[doing.phase]} {doing.size} samples of task '{task}' {since}"
    name, inner = shard(doing.source, doing.number)
    sample = f"sample '{doing.key}'" if doing.key else f"sample number {inner}"
    verb = "prepares" if doing.phase == PREPARING else "reads"
    if doing.done < 0:
        of = f"one of {doing.size} samples that it reads together, from position {doing.position} on"
        return f"{verb} {sample} of shard '{name}' {since} (task '{task}', {of})"
    return (
        f"{verb} {sample} of shard '{name}' {since} (task '{task}', position {doing.position}, "
        f"{doing.done} of {doing.size} samples of its micro-batch are done)"
    )


def process_state(pid: int) -> str:
    """What the kernel says a process does: running, sleeping, in uninterruptible sleep (a dead mount), stopped."""
    words = {"R": "running", "S": "sleeping", "D": "in uninterruptible sleep", "T": "stopped by a signal", "Z": "dead"}
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "state unknown"
    return words.get(state, f"state {state}")


def check_times(warn_after_s: float, deadline_s: float) -> None:
    """Checks the two times of a :class:`Watchdog`.

    Raises:
        InputError: they are not in order.
    """
    if not 0 < warn_after_s < deadline_s:
        raise InputError(f"loader.warn_after_s={warn_after_s:g} is not between 0 and loader.deadline_s={deadline_s:g}")


class Watchdog:
    """A thread that warns of a wait that takes long, and ends the run when it takes too long.

    The end is a :class:`RunError` in the main thread, which a signal takes out of whatever it waits for. Where it is
    stuck so deep that no signal reaches it, the process ends there and then, with the same message.

    Args:
        describe: what is waited for, in words; called in the watching thread, must not read shards.
        warn_after_s: seconds until the first warning; others follow at twice, four times, ... the time.
        deadline_s: seconds until the run ends.
        grace_s: seconds that the main thread gets to notice.

    Raises:
        InputError: the times are not in order.
    """

    def __init__(
        self, describe: Callable[[], str], warn_after_s: float, deadline_s: float, grace_s: float = 5.0
    ) -> None:
        check_times(warn_after_s, deadline_s)
        self.describe = describe
        self.warn_after_s, self.deadline_s, self.grace_s = warn_after_s, deadline_s, grace_s
        self._since = math.inf
        self._over = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches as long as the context lasts; only the main thread can be ended gently."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGURG, self._end) if main else None
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="data watchdog", daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self._since = math.inf
            self._ended.set()
            if main and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGURG, before)

    def begin(self) -> float:
        """A wait begins; returns when, by the monotonic clock."""
        self._since = time.monotonic()
        return self._since

    def end(self) -> None:
        """It is over."""
        self._since = math.inf

    def _end(self, number: int, frame: FrameType | None) -> None:
        # In the main thread, so that a wait that is over by now is seen to be.
        if self._over and self._since < math.inf:
            self._since = math.inf
            raise RunError(self._over)

    def _watch(self) -> None:
        tick = min(1.0, self.warn_after_s / 4, (self.deadline_s - self.warn_after_s) / 4)
        warned, due = math.inf, 0.0
        while not self._ended.wait(tick):
            since, now = self._since, time.monotonic()
            if since == math.inf:
                continue
            if since != warned:
                warned, due = since, self.warn_after_s
            if now - since >= self.deadline_s:
                self._give_up(since, now)
                return
            if now - since >= due:
                due *= 2
                text = self.describe()
                if self._since == since:
                    log.warning("waiting for data for %.0f s: %s", now - since, text)

    def _give_up(self, since: float, now: float) -> None:
        self._over = (
            f"no data for {now - since:.0f} s, loader.deadline_s={self.deadline_s:g}: {self.describe()}; "
            "the same command continues"
        )
        end = time.monotonic() + self.grace_s
        while self._since == since and time.monotonic() < end:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGURG)
            if self._ended.wait(0.2):
                return
        if self._since == since:
            log.error("%s", self._over)
            os._exit(1)
