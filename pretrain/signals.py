"""Signals that ask a run to stop: noted from the first line of the program on, acted on where nothing is lost.

A handler only notes the number. Who is at a place where stopping is safe looks at it: between the stages of the
start, at the edge of a step, and in waits that may take long, which it cuts short. Imports no torch, so that it can be
listening before the imports that take seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
REQUEUEING = (signal.SIGUSR1, signal.SIGUSR2)
"""What a scheduler is asked to send before the time is over; the job is wanted again then."""

EXIT_ERROR, EXIT_INPUT = 1, 2
EXIT_STOPPED, EXIT_INTERRUPTED = 143, 130
START_GRACE_S = 20.0
"""A start that is stuck (a dead mount, a rendezvous) ends so long after a signal; there is nothing to save yet."""
_ASKING_S = 60.0  # for that end, where somebody is asked for another start before it
_SAME_KEY_S = 0.5  # one Ctrl-C may arrive twice: from the terminal and from a launcher that passes it on
_INSISTING = 3


class Stopped(Exception):
    """The run was stopped by a signal and can be continued; carries what a person reads.

    Attributes:
        number: of the signal.
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class Interrupted(BaseException):
    """A wait was left because of a signal. Like KeyboardInterrupt it is no ``Exception``: it is nobody's mistake.

    Attributes:
        left: where the run stands, for a person.
    """

    left = ", unsaved since the newest checkpoint"


def is_stop(error: BaseException | None) -> bool:
    """Whether ``error`` is how a run ends that a signal has stopped, in this process or in another rank."""
    return isinstance(error, Stopped | Interrupted) or getattr(error, "code", None) in (EXIT_STOPPED, EXIT_INTERRUPTED)


def heeded() -> list[signal.Signals]:
    """Those of :data:`STOPPING` that this process acts on: all, but the end of its terminal where ``nohup`` says so."""
    return [n for n in STOPPING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


def exit_code(number: int) -> int:
    """130 for Ctrl-C, 143 for whatever a scheduler sends."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_STOPPED


class Signals:
    """What this process was sent.

    Attributes:
        received: the first of :data:`STOPPING`, 0 before; later ones change nothing.
        requeueing: whether one of :data:`REQUEUEING` was among them.
        running: whether training has begun, so that stopping is for the edge of a step.
        leaving: called once, with ``received`` and ``requeueing``, where this process ends on a signal and not at the
            edge of a step, at which the ranks would have agreed on what follows; see :meth:`leave`.
    """

    def __init__(self) -> None:
        self.received = 0
        self.requeueing = False
        self.running = False
        self.leaving: Callable[[int, bool], None] | None = None
        self._one_leaves = threading.Lock()
        self._since = 0.0
        self._process = os.getpid()
        self._waiting = 0  # number of the wait that may be cut short, 0 where there is none
        self._waits = 0
        self._thrown = False  # whether the wait was cut short
        self._patience = 0.0
        self._reminded = False
        self._insisted, self._last = 0, 0.0

    def listen(self) -> None:
        """Takes over the signals; again, wherever a library may have done so. Main thread only."""
        self._process = os.getpid()
        for number in heeded():
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # who started this process may have put them off

    def forget(self) -> None:
        """As if nothing had been received; a process that trains several times in a row begins with it."""
        self.__init__()  # type: ignore[misc]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked child that has not set its own yet: the parent decides
        first = not self.received
        if first:  # before all else: another signal may come while this one is being noted
            self.received, self._since = number, time.monotonic()
        self.requeueing |= number in REQUEUEING
        if number == signal.SIGINT and not self._reminded:
            self._insist()
        self._reminded = False
        if first and not self.running:
            threading.Thread(target=self._end_a_stuck_start, name="start watch", daemon=True).start()
        self._cut()

    def _cut(self) -> None:
        if not self._waiting:
            return
        if time.monotonic() - self._since >= self._patience:
            self._waiting, self._thrown = 0, True
            raise Interrupted
        self._remind()

    def _remind(self) -> None:
        """Comes back to a wait that has some time left yet."""
        wait = self._waiting

        def wake() -> None:
            if self._waiting == wait:
                self._reminded = True
                signal.pthread_kill(threading.main_thread().ident or 0, self.received)

        timer = threading.Timer(max(0.0, self._since + self._patience - time.monotonic()) + 0.01, wake)
        timer.daemon = True
        timer.start()

    def _insist(self) -> None:
        """Ctrl-C again and again is a person who wants out now, saved or not."""
        now = time.monotonic()
        self._insisted += now - self._last > _SAME_KEY_S
        self._last = now
        if self._insisted >= _INSISTING:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        if sys.stderr.isatty():
            left = _INSISTING - self._insisted
            # Not by print: what the signal has interrupted may be printing itself.
            os.write(2, f"stopping at the next step edge; Ctrl-C {left} more times ends at once, unsaved\n".encode())

    def _end_a_stuck_start(self) -> None:
        time.sleep(START_GRACE_S)
        if not self.running:
            print(f"pretrain: {self.described()} while it started; the same command continues", file=sys.stderr)
            # By a thread of its own: what the start is stuck in (a log on a dead mount) may keep this one as well.
            asking = threading.Thread(target=self.leave, name="leaving", daemon=True)
            asking.start()
            asking.join(_ASKING_S)
            os._exit(exit_code(self.received))

    def leave(self) -> None:
        """Before an end on a signal that is not at the edge of a step; a second call waits for the first.

        The signal may have been another rank's: then it counts as what a scheduler sends.
        """
        with self._one_leaves:
            ask, self.leaving = self.leaving, None
            if ask is not None:
                ask(self.received or signal.SIGTERM, self.requeueing)

    def described(self) -> str:
        """``stopped by SIGTERM``."""
        return f"stopped by {signal.Signals(self.received).name}"

    def check(self) -> None:
        """Between the stages of a start, where nothing is lost yet.

        Raises:
            Stopped: a signal was received.
        """
        if self.received:
            self.leave()
            raise Stopped(f"{self.described()} before the first step", self.received)

    @contextmanager
    def cutting_short(self, patience_s: float = 0.0) -> Iterator[None]:
        """A signal, also one that is there already, ends what is done in this context.

        Args:
            patience_s: but only so long after it was received.

        Raises:
            Interrupted: out of the context, at any place in it. Where a library swallows what is raised in a function
                that it calls (a decoder that reads from Python), at the end: what it made of that is not to be used.
        """
        self._patience, self._thrown = patience_s, False
        if self.received and time.monotonic() - self._since >= patience_s:
            raise Interrupted
        self._waits += 1
        self._waiting = self._waits
        if self.received:
            self._remind()
        try:
            yield
        except Exception as error:
            if self._thrown:
                raise Interrupted from error
            raise
        finally:
            self._waiting = 0
        if self._thrown:
            raise Interrupted


SIGNALS = Signals()
"""Of this process: handlers are the process's own, and so is what they note."""
