"""Saving beside training: a copy to host memory, then a thread writes, and what came of it is told at a step edge."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from torch import Tensor

from pretrain.checkpoint.disk import remove
from pretrain.checkpoint.peers import Peers
from pretrain.checkpoint.plan import Layout, Share, State, layout_of, share_of
from pretrain.checkpoint.snapshot import Snapshot, on_host
from pretrain.checkpoint.writing import Written, as_json, commit, part_folder, write_share

Tensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Outcome:
    """What came of a save, the same on all processes.

    Attributes:
        step: of the checkpoint.
        error: why there is none; None if it is published.
        rank: the process that met it.
    """

    step: int
    error: Exception | None = None
    rank: int = 0


@dataclass
class _Flight:
    step: int
    folder: Path
    state: bytes
    written: Future[Written]
    published: Future[None] | None = None
    culprit: int = 0


@dataclass
class Saver:
    """Writes checkpoints, at most one at a time.

    One process: a thread writes and publishes. Several: each writes its share in a thread; at the first step
    edge at which all are ready (:attr:`busy` of none) they exchange what they have written, rank 0 publishes it in its
    thread, and at a later such edge all learn that it has. Older ones are removed by another thread of rank 0, as that
    may take as long as reading them: who has no time does not wait for it, and the next start does what is left.

    Args:
        root: the run's ``checkpoints/``.
        peers: who saves together.
        secure: brings to disk what must be there before the checkpoint is (metric rows); in the thread.
        examine: looks at the copies before they count (raises if they must not be published); in the thread.
        after: called with the folder after it is published; in the thread of rank 0.
        tidy: called after that (retention); in a thread of its own of rank 0.
    """

    root: Path
    peers: Peers
    secure: Callable[[], None]
    examine: Callable[[Tensors, int], None]
    after: Callable[[Path], None]
    tidy: Callable[[], None] | None = None
    _snapshot: Snapshot = field(default_factory=Snapshot)
    _flight: _Flight | None = None
    _thread: ThreadPoolExecutor | None = None
    _tidying: Thread | None = None
    _layout: Layout | None = None
    _share: Share | None = None
    _attempt: str = ""
    _number: int = 0

    @property
    def step(self) -> int | None:
        """Of the checkpoint that is under way, None if none is."""
        return self._flight.step if self._flight is not None else None

    @property
    def busy(self) -> bool:
        """Whether a thread of this process is at work."""
        flight = self._flight
        if flight is None:
            return False
        if flight.published is None:
            return not flight.written.done()
        return not flight.published.done() or (self._tidying is not None and self._tidying.is_alive())

    def start(self, step: int, state: State, facts: Mapping[str, Any], copied: bool = True) -> None:
        """Lets the thread write a copy of the state. Collective; none may be under way.

        Args:
            step: of the checkpoint.
            state: what this process holds.
            facts: for ``state.json``, the same on all processes.
            copied: write a copy, so that the state may change as soon as this returns. False saves that, but then it
                must not change before :meth:`finish` returns.
        """
        assert self._flight is None
        text = as_json(facts)
        share = self._divide(state)
        tensors = share.tensors(state)
        copies = self._snapshot.take(tensors) if copied else on_host(tensors)
        folder = part_folder(self.root, step, f"{self._attempt}{self._number}")
        self._number += 1
        flight = _Flight(step, folder, text, self._submit(self._write, step, folder, share, copies))
        if self.peers.size == 1:
            flight.published = self._submit(self._publish_own, flight)
        self._flight = flight

    def settle(self, patience: float | None = None) -> Outcome | None:
        """Takes the next step of what is under way, and says what came of it if that was the last one.

        Collective; waits for the threads, so that it is called where no process is busy, or at the end.

        Args:
            patience: seconds to wait until older ones are removed; None: as long as it takes.
        """
        flight = self._flight
        if flight is None:
            return None
        if flight.published is None:
            error = flight.written.exception()
            written = None if error else flight.written.result()
            said = self.peers.gather((written, error))
            errors = [(rank, error) for rank, (_, error) in enumerate(said) if error is not None]
            if errors:
                flight.culprit, first = errors[0]
                flight.published = self._submit(self._give_up, flight.folder, first)
            else:
                every = [one for one, _ in said if one is not None]
                flight.published = self._submit(self._publish, flight, every)
            return None
        failure = self.peers.from_first(flight.published.exception())
        self._flight = None
        self.close(patience=patience)
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        return Outcome(flight.step, failure, flight.culprit)

    def finish(self, patience: float | None = None) -> Outcome | None:
        """Waits until nothing is under way, and says what came of it. Collective; ``patience`` as in :meth:`settle`."""
        outcome = None
        while self._flight is not None:
            outcome = self.settle(patience)
        return outcome

    def close(self, wait: bool = True, patience: float | None = None) -> None:
        """Ends the threads when they have done what they were given; no collective. Between saves none is forked.

        Args:
            wait: for what writes; else only the end of the process does.
            patience: see :meth:`settle`.
        """
        if self._thread is not None:
            self._thread.shutdown(wait)
            self._thread = None
        if wait and self._tidying is not None:
            self._tidying.join(patience)

    def _divide(self, state: State) -> Share:
        """What this process writes of it; the processes are asked again only where something has changed."""
        layout = layout_of(state)
        if self.peers.size == 1:
            return share_of([layout], 0)
        if any(self.peers.gather(layout != self._layout)):
            # Names that no process of an earlier start, which may still be writing, can have used.
            said = self.peers.gather((layout, os.urandom(4).hex()))
            self._attempt = f"{said[0][1]}-"
            self._layout, self._share = layout, share_of([one for one, _ in said], self.peers.rank)
        assert self._share is not None
        return self._share

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        return self._thread.submit(function, *arguments)

    def _write(self, step: int, folder: Path, share: Share, copies: Tensors) -> Written:
        self.examine(copies, step)
        self.secure()
        return write_share(folder, share, copies)

    def _publish_own(self, flight: _Flight) -> None:
        error = flight.written.exception()
        if error is not None:
            self._give_up(flight.folder, error)
        self._publish(flight, [flight.written.result()])

    def _publish(self, flight: _Flight, written: list[Written]) -> None:
        if self.peers.rank:
            return
        try:
            path = commit(self.root, flight.folder, flight.step, flight.state, written)
        except OSError as error:
            self._give_up(flight.folder, error)
        self.after(path)
        if self.tidy is not None:
            self._tidying = Thread(target=self.tidy, name="checkpoint tidying", daemon=True)
            self._tidying.start()

    def _give_up(self, folder: Path, error: BaseException) -> None:
        """Makes room again, and lets the cause be known."""
        if self.peers.rank == 0:
            # A disk that fails may fail in this as well; what is left is removed at the next start.
            with suppress(OSError):
                remove(folder)
        raise error
