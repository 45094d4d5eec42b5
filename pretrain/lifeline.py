"""A line between the ranks beside their collectives: who died, was stopped or failed is named, and ends the others.

A collective whose partner is gone hangs, or fails with a message that names nobody. Here each rank holds a plain
connection to rank 0 and gives a sign of life on it from a thread of its own. A killed process closes its connection at
once; a stopped one, or one whose host is gone, falls silent; one that fails says why before it leaves. Rank 0 passes on
what happened, and every rank ends with the same one line. Imports no torch.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import FrameType, TracebackType

from data.errors import InputError, RunError
from pretrain.redaction import redact
from pretrain.signals import SIGNALS, Interrupted, Stopped, exit_code
from pretrain.wire import Peer, Wire

_TICKS = 8  # signs of life in the time after whose silence a rank is given up
_GRACE_S = 5.0  # for the main thread to end by itself
_ECHO_S = 3.0  # a rank's death is felt in a collective a moment before it is heard of
_SIGNAL = signal.SIGIO  # takes the main thread out of what it waits for; nothing else here uses it


@dataclass(frozen=True)
class Ended:
    """Why the run ends on all ranks: what befell which of them, in one line, and the exit code."""

    text: str
    code: int = 1


class RankEnded(RunError):
    """Another rank ended, so this one cannot go on.

    Attributes:
        code: exit code of that rank.
    """

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.text)
        self.code = ended.code


class Lifeline:
    """This rank's end of it; a context in which the ranks depend on one another.

    Args:
        rank: of this process.
        world_size: how many there are; one needs no line.
        silence_s: a rank that gives no sign of life for so long counts as dead. What is measured is how long this
            process itself was running: a host that slept, or a job that was stopped as a whole, accuses nobody.
        last_word: told why, where this process has to be ended without unwinding.

    Attributes:
        doing: what this rank is at, for the others to name when it keeps them waiting.
        ended: set once, when the run ends because of what another rank said or did not say.
    """

    def __init__(
        self, rank: int, world_size: int, silence_s: float, last_word: Callable[[RankEnded], None] | None = None
    ) -> None:
        self.rank, self.world_size, self.silence_s = rank, world_size, silence_s
        self._last_word = last_word
        self.doing = "started"
        self.ended: Ended | None = None
        self._wire = Wire()
        self._peers: dict[int, Peer] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._known = threading.Event()
        self._thread: threading.Thread | None = None
        self._guarding = False

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tells the others how this rank ends; an error that is but the echo of another rank's end becomes that.

        Raises:
            RankEnded: in place of an error that another rank is the cause of.
        """
        if error is None or isinstance(error, Stopped):
            self.leave()
        elif isinstance(error, RankEnded):
            self._close({"bye": True})
        elif isinstance(error, InputError | RunError):
            self.fail(str(error), 2 if isinstance(error, InputError) else 1)
        elif isinstance(error, Interrupted):
            self.fail(f"{SIGNALS.described()} while it {self.doing}", exit_code(SIGNALS.received))
        else:
            ended = self.explanation(_ECHO_S)
            if ended is not None:
                self._close({"bye": True})
                raise RankEnded(ended) from error
            late = f" (last heard of: {self.waiting_for()})" if self._peers else ""
            self.fail(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}{late}", 1)

    @property
    def me(self) -> str:
        """``rank 1 (process 77 on n2)``."""
        return f"rank {self.rank} (process {os.getpid()} on {socket.gethostname()})"

    def listen(self) -> tuple[int, str]:
        """Rank 0: opens the line; returns the port and the word that proves that somebody belongs to the run."""
        secret = secrets.token_hex(16)
        return self._wire.listen(secret, local=os.environ.get("MASTER_ADDR", "") in ("127.0.0.1", "localhost")), secret

    def join(self, port: int, secret: str) -> None:
        """The other ranks: connects to rank 0, which is where the launcher says that the ranks meet.

        Raises:
            RunError: it cannot be reached.
        """
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        try:
            peer = self._wire.connect(host, port, self.silence_s)
        except OSError as error:
            raise RunError(f"{self.me} cannot reach rank 0 at {host}:{port}: {error.strerror or error}") from None
        peer.rank, peer.name = 0, f"rank 0 (on {host})"
        peer.send({"secret": secret, "rank": self.rank, "name": self.me})
        self._peers[0] = peer

    def start(self) -> None:
        """Begins to give and to watch for signs of life. Main thread only."""
        signal.signal(_SIGNAL, self._interrupt)
        self._guarding = True
        self._thread = threading.Thread(target=self._watch, name="lifeline", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """An end that all ranks have agreed on: the others do not miss this one."""
        self._close({"bye": True})

    def fail(self, text: str, code: int) -> None:
        """This rank cannot go on because of ``text``; the others end with it."""
        ended = Ended(redact(f"{self.me} ended: {text}"), code)
        with self._lock:
            first = self.ended is None
            self.ended = self.ended or ended
        self._close({"end": asdict(ended)} if first else {"bye": True})

    def explanation(self, seconds: float) -> Ended | None:
        """Why the run ends, if another rank is the cause; a rank that dies is heard of a moment after it is felt."""
        if self._thread is not None:
            self._known.wait(seconds)
        return self.ended

    def waiting_for(self) -> str:
        """What the other ranks were at when they were last heard of, as far as this rank knows."""
        return "; ".join(f"{peer.name} {peer.doing}" for _, peer in sorted(self._peers.items()) if peer.rank >= 0)

    def _close(self, last: dict[str, object]) -> None:
        self._guarding = False
        if self._thread is None or self._done.is_set():
            return
        with self._lock:
            for peer in self._peers.values():
                peer.send(last)
        # A connection that is closed with something unread on it may take our last word with it: it is heard first.
        end = time.monotonic() + _GRACE_S
        while time.monotonic() < end and not all(peer.left or peer.heard for peer in self._peers.values()):
            time.sleep(0.001)
        self._done.set()
        self._thread.join(_GRACE_S)
        self._wire.close()

    def _watch(self) -> None:
        tick, last = self.silence_s / _TICKS, time.monotonic()
        while not self._done.is_set():
            arrived = self._wire.wait(tick / 2)
            now = time.monotonic()
            passed, last = min(now - last, tick), now  # what is longer was no time in which this process ran
            with self._lock:
                for peer, messages in arrived:
                    self._hear(peer, messages)
                self._look(passed, tick)
            if self.ended is not None and not self._known.is_set():
                self._known.set()
                threading.Thread(target=self._end_main, name="end of the run", daemon=True).start()

    def _hear(self, peer: Peer, messages: list[dict[str, object]] | None) -> None:
        if messages is None:  # its connection is closed
            if peer.rank >= 0 and not peer.left:
                self._over(Ended(f"{peer.name} is gone since it {peer.doing}: it was killed, or its host failed"))
            peer.left = True
            return
        peer.silent_s = 0.0
        for message in messages:
            if "rank" in message:
                peer.rank, peer.name = int(str(message["rank"])), str(message["name"])
                self._peers[peer.rank] = peer
                if self.rank == 0:
                    peer.send({"rank": 0, "name": self.me})
            peer.doing = str(message.get("doing", peer.doing))
            peer.left |= bool(message.get("bye"))
            peer.heard |= bool(message.get("heard"))
            end = message.get("end")
            if end or message.get("bye"):
                peer.send({"heard": True})
            if isinstance(end, dict):
                peer.left = True
                self._over(Ended(str(end["text"]), int(end["code"])))

    def _look(self, passed: float, tick: float) -> None:
        for peer in self._peers.values():
            peer.silent_s += passed
            peer.unsaid_s += passed
            if peer.left:
                continue
            if peer.unsaid_s >= tick:
                peer.unsaid_s = 0.0
                peer.send({"doing": self.doing})
            if peer.silent_s >= self.silence_s:
                peer.left = True
                self._over(
                    Ended(
                        f"{peer.name} has given no sign of life for {peer.silent_s:.0f} s since it {peer.doing}: "
                        "it was stopped, or its host is gone"
                    )
                )

    def _over(self, ended: Ended) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        if self.rank == 0:
            for peer in self._peers.values():
                peer.send({"end": asdict(ended)})

    def _end_main(self) -> None:
        """Ends the main thread: by an exception where it can be reached, else with the process."""
        end = time.monotonic() + _GRACE_S
        while time.monotonic() < end:
            if self._guarding:
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
            if self._done.wait(0.2):
                return
        if self.ended is not None:
            if self._last_word is not None:
                self._last_word(RankEnded(self.ended))
            print(f"pretrain: error: {self.ended.text}", file=sys.stderr, flush=True)
            os._exit(self.ended.code)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._guarding and self.ended is not None:
            self._guarding = False
            raise RankEnded(self.ended)
