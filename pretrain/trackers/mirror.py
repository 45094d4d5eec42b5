"""Gives a tracker what a run's files say, from a process that has nothing to do with training. Imports no torch."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError, RunError, choices
from pretrain.build import make
from pretrain.lease import held
from pretrain.trackers.delivered import FOLDER, Delivered
from pretrain.trackers.settled import Settled, WithdrawnError
from pretrain.trackers.tracker import Tracker

log = logging.getLogger("pretrain")

EVERY_S = 1.0
"""How often the files are looked at."""

_KNOWN = (
    "pretrain.trackers.tensorboard.TensorBoard",
    "pretrain.trackers.weights_and_biases.WeightsAndBiases",
)


def trackers_of(config: Mapping[str, Any], directory: Path) -> dict[str, Tracker]:
    """Name -> tracker, as ``logger`` of a run's config describes them; nothing is opened.

    Raises:
        InputError: a setting is wrong, or it is no tracker.
    """
    found = {name: make(node, f"logger.{name}", directory=directory) for name, node in config["logger"].items()}
    for name, tracker in found.items():
        if not isinstance(tracker, Tracker):
            given = str(config["logger"][name]["_target_"])
            raise InputError(f"logger.{name}._target_ '{given}' is no tracker; {choices(given, _KNOWN)}")
    return found


def names_of(config: Mapping[str, Any], directory: Path) -> list[str]:
    """Those trackers of ``logger`` that a run started here and now is mirrored to."""
    return [name for name, tracker in trackers_of(config, directory).items() if tracker.wanted]


class Mirror:
    """One tracker of one run.

    Args:
        folder: the run directory.
        tracker: gets the rows that stand there; see :mod:`pretrain.trackers.settled`.
        patience_s: how long the tracker may take to answer.

    Attributes:
        sent: rows handed over.
        step: the last one that the tracker is known to have.
    """

    def __init__(self, folder: Path, tracker: Tracker, patience_s: float) -> None:
        self.folder, self.tracker, self.patience_s = folder, tracker, patience_s
        self.sent = self.step = 0

    def run(self, ending: threading.Event, wait: bool) -> None:
        """Delivers until ``ending`` is set and nothing is left that stands.

        Args:
            ending: nothing more is written to the run.
            wait: for another process that mirrors the same, which is about to end.

        Raises:
            TrackerError: the tracker cannot be reached, or left.
            RunError: another process mirrors the same, or the disk takes nothing.
            InputError: a file of the run is damaged.
        """
        try:
            (self.folder / FOLDER).mkdir(exist_ok=True)
            path = self.folder / FOLDER / f"{self.tracker.key}.lock"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunError(f"'{self.folder / FOLDER}': {error.strerror or error}") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if held(error):
                    raise RunError(
                        f"another process mirrors '{self.folder}' to {self.tracker.key}; wait for it"
                    ) from None
                log.warning(
                    "the file system of '%s' has no locks (%s): nothing keeps a second process from mirroring it to %s",
                    *(self.folder, error.strerror, self.tracker.key),
                )
            self._run(ending)
        except OSError as error:
            raise RunError(f"'{self.folder / FOLDER}': {error.strerror or error}") from None
        finally:
            os.close(lock)

    def _run(self, ending: threading.Event) -> None:
        delivered = Delivered.read(self.folder, self.tracker.key)
        if not self.tracker.has(delivered):
            delivered = Delivered(history=delivered.history + 1)
        while (replaced := self._follow(delivered, ending)) is not None:
            delivered = replaced

    def _follow(self, delivered: Delivered, ending: threading.Event) -> Delivered | None:
        """None when all is delivered; what to begin with again where rows were withdrawn."""
        settled, have = Settled(self.folder, delivered), delivered.step
        opened = withdrawn = False
        while True:
            last = ending.is_set()  # looked at first: what is written before is read after
            try:
                for step, values in settled.rows():
                    if not opened and (self.tracker.answers or step > have):
                        have = self.tracker.begin(delivered, self.patience_s)
                        opened = True
                    if step > have:
                        self.tracker.send(step, values)
                        self.sent += 1
            except WithdrawnError:
                withdrawn = True
            if withdrawn or last:
                break
            if opened and self.tracker.answers:
                self._remember(delivered, settled)  # what it may have; how much it has, it says itself
            ending.wait(EVERY_S)
        if opened:
            segment = self.tracker.finish()
            if not self.tracker.answers:
                delivered.segments.append(segment)
            self._remember(delivered, settled)
        self.step = delivered.step
        return Delivered(history=delivered.history + 1) if withdrawn else None

    def _remember(self, delivered: Delivered, settled: Settled) -> None:
        if settled.step > delivered.step:
            delivered.step, delivered.size, delivered.sha256 = settled.step, settled.size, settled.sha256
            delivered.write(self.folder, self.tracker.key)
