"""Shards fetched in the background, before they are asked for."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from data.errors import InputError, RunError
from data.store import url as urls
from data.store.remote import Cancelled
from data.store.space import Full

log = logging.getLogger("pretrain")


class Prefetcher:
    """A few threads that fetch a list in its order.

    It goes only so far into the list as its first shards fit into ``room`` together, so that one that it fetched is
    not evicted for a later one, and it never waits for room: what is in use stays. What cannot be fetched is left to
    whoever needs it, who gets the error.

    Args:
        fetch: (name, check) -> open descriptor; calls ``check`` while it waits.
        size: name -> bytes.
        room: bytes.
        threads: shards at a time.
    """

    def __init__(
        self,
        fetch: Callable[[str, threading.Event], int],
        size: Callable[[str, threading.Event], int],
        room: int,
        threads: int,
    ) -> None:
        self.fetch = fetch
        self.size = size
        self.room = room
        self.threads = threads
        self._wanted: deque[str] = deque()
        self._left = room
        self._running: dict[str, threading.Event] = {}
        self._workers = 0
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._turn = threading.Lock()
        """Held from taking a name to knowing its size: room is given in order."""
        self._told: set[str] = set()

    def ask(self, urls: Iterable[str]) -> None:
        """Fetches these, in this order, instead of what was asked for before and has not begun."""
        with self._lock:
            self._wanted = deque(dict.fromkeys(urls))
            self._left = self.room
            for name, cancelled in self._running.items():
                if name not in self._wanted:
                    cancelled.set()
            while self._workers < min(self.threads, len(self._wanted)):
                self._workers += 1
                threading.Thread(target=self._work, daemon=True, name="store prefetch").start()

    def wait(self, timeout_s: float) -> bool:
        """Whether all is done within the time."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._workers, timeout_s)

    def close(self) -> None:
        """Cancels all, and waits until it has ended."""
        self.ask([])
        self.wait(10.0)

    def _work(self) -> None:
        while True:
            with self._turn:
                with self._lock:
                    if not self._wanted:
                        self._workers -= 1
                        self._idle.notify_all()
                        return
                    name = self._wanted.popleft()
                    if name in self._running:
                        continue
                    self._running[name] = cancelled = threading.Event()
                granted = False
                with self._going_on(name):
                    granted = self._grant(name, cancelled)
            if granted:
                with self._going_on(name):
                    os.close(self.fetch(name, cancelled))
            with self._lock:
                del self._running[name]

    @contextlib.contextmanager
    def _going_on(self, name: str) -> Iterator[None]:
        """What goes wrong is left to who needs the shard; what nobody has thought of is told once a kind."""
        try:
            yield
        except (InputError, RunError, Cancelled, Full):
            pass
        except Exception as error:  # noqa: BLE001 -- whatever it is, a thread that ends here would be missing from then on
            kind = type(error).__name__
            if kind not in self._told:
                self._told.add(kind)
                log.warning("'%s' was not fetched ahead: %s: %s", urls.shown(name), kind, error)

    def _grant(self, name: str, cancelled: threading.Event) -> bool:
        """Whether the shard exists and its bytes are within the room; if they are not, the list ends here."""
        size = self.size(name, cancelled)
        with self._lock:
            if cancelled.is_set():
                return False
            self._left -= size
            if self._left < 0:
                self._wanted.clear()
            return self._left >= 0
