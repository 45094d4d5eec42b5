"""Evaluates each checkpoint of a run once, beside the training, together with other watchers.

Who takes a checkpoint locks a file of its name; the kernel gives the lock up when the process ends, however it ends, so
that another one takes over. That there is a result says that it is done. Weights are copied into memory before anything
is measured: the training prunes its checkpoints as if nobody looked, and one that is gone by its turn is passed over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrain import checkpoint
from pretrain.checkpoint.disk import make
from pretrain.evaluation import results, shown
from pretrain.evaluation.subject import Subject, digest_of
from pretrain.run import RunDirectory
from pretrain.runs.holder import holder

log = logging.getLogger("pretrain")


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Whether this process has ``path`` to itself, as long as the context lasts."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        yield False
        return
    try:
        yield True
    finally:
        os.close(file)


class Watcher:
    """Takes checkpoints as they are published, the oldest first.

    Args:
        directory: of the run.
        subject: what evaluates.
        max_steps: of the run; with that step's result the work is done.
        every_s: how often is looked for new ones.
        patience_s: the work is over as well where nothing is left and nobody has trained for so long.
        said: called with step and metrics of each that this process has evaluated.
    """

    def __init__(
        self,
        directory: RunDirectory,
        subject: Subject,
        max_steps: int,
        every_s: float = 2.0,
        patience_s: float = 60.0,
        said: Callable[[int, int], None] = lambda step, count: None,
    ) -> None:
        self.directory, self.subject, self.max_steps = directory, subject, max_steps
        self.every_s, self.patience_s, self.said = every_s, patience_s, said
        self.passed: dict[str, str] = {}  # digests of those that cannot be read, and why
        # Of those taken: another watcher may put values of another kind (of the average, say) in the place of ours.
        self.done: set[str] = set()
        self._alive = time.monotonic()

    def run(self) -> int:
        """Evaluates until the run is over; returns how many checkpoints this process took."""
        taken = 0
        make(self.directory.path / results.FOLDER)
        while True:
            done = sum(self._try(path) for path in self.left())
            taken += done
            if not done and self.over():
                return taken
            if not done:
                time.sleep(self.every_s)

    def left(self) -> list[Path]:
        """Published checkpoints without a result of these evaluators, of weights of this kind; the oldest first."""
        found = []
        for path in reversed(checkpoint.published(self.directory.checkpoints)):
            try:
                digest = digest_of(path)
            except OSError:
                continue  # pruned this moment
            if digest not in self.passed and digest not in self.done and not self._has_result(path, digest):
                found.append(path)
        return found

    def over(self) -> bool:
        """Whether nothing is left and nothing will come."""
        if holder(self.directory.path).active is not False:
            self._alive = time.monotonic()
        if self.left():
            return False
        if results.read(results.path_of(self.directory.path, self.max_steps)) is not None:
            return True
        return time.monotonic() - self._alive > self.patience_s

    def _has_result(self, path: Path, digest: str) -> bool:
        found = results.read(results.path_of(self.directory.path, checkpoint.step_of(path)))
        if found is None or found.get("checkpoint") != digest:
            return False
        names = set(self.subject.names)
        return found.get("averaged") == self.subject.averaged and names <= set(found.get("evaluators", names))

    def _try(self, path: Path) -> bool:
        """Evaluates a checkpoint, unless another watcher is at it or has done it, or it is gone."""
        step = checkpoint.step_of(path)
        with lease(self.directory.path / results.FOLDER / f".{path.name}.lock") as own:
            if not own:
                return False
            try:
                digest = digest_of(path)
                if self._has_result(path, digest):
                    return False  # by whoever had the lease before
                self.subject.take(checkpoint.Reader(path))
            except OSError:
                return False
            except checkpoint.Damaged as error:
                if path.exists():  # else it was pruned while it was read
                    log.warning("checkpoint %s is passed over: %s", path.name, error)
                    self.passed[digest] = str(error)
                return False
            scores = self.subject.measure()
            self.done.add(digest)
            file = results.path_of(self.directory.path, step)
            results.write(file, step, digest, self.subject.averaged, scores, self.subject.tables, self.subject.names)
            shown.write_all(self.directory.path, step, self.subject.evaluators)
        self.said(step, len(scores))
        return True
