"""The rows of a run that stand: those up to its newest published checkpoint, from which every later start goes on.

Rows beyond it are dropped by the next start and made again, so nobody is told of them yet. Rows that stood can still be
withdrawn, where a run goes back to an older checkpoint; then the bytes of the file are others, which is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain import checkpoint
from pretrain.run import EVENTS, METRICS, SPEED
from pretrain.trackers.delivered import Delivered

_BLOCK = 1 << 20


class WithdrawnError(Exception):
    """Rows that were delivered are not those of the run any more."""


class Settled:
    """Reads what has come to stand since the last time, in the order of steps.

    Args:
        folder: the run directory.
        delivered: what a tracker was given before.
    """

    def __init__(self, folder: Path, delivered: Delivered) -> None:
        self._folder, self._delivered = folder, delivered
        self._metrics = _Tail(folder / METRICS)
        self._speed, self._events = _Tail(folder / SPEED), _Tail(folder / EVENTS)
        self._verified = False
        self.step = 0
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the rows read so far."""
        return self._digest.hexdigest()

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Step and numbers of each further row: ``metrics.jsonl``, ``speed/...``, ``events/KIND`` (how many).

        Raises:
            WithdrawnError: what was delivered, or read before, is not in the file any more.
            InputError: a file holds a line that is no row.
        """
        last = last_settled(self._folder)
        if self._metrics.replaced():
            self._verified = False
        if not self._verified:
            if last < max(self._delivered.step, self.step):
                return  # the run has gone back, and has not come so far again
            for size, digest in ((self._delivered.size, self._delivered.sha256), (self.size, self.sha256)):
                if size and digest_of(self._folder / METRICS, size) != digest:
                    raise WithdrawnError
            self._metrics.seek(self.size)
            self._verified = True
        for beside in (self._speed, self._events):
            beside.replaced()
        for line, row in self._metrics.upto(last):
            step, before = row.pop("step"), self.step
            self.step, self.size = step, self.size + len(line)
            self._digest.update(line)
            for _, speed in self._speed.upto(step):
                if speed["step"] == step:
                    row |= {f"speed/{name}": value for name, value in speed.items() if name != "step"}
            for _, event in self._events.upto(step):
                if event["step"] > before:
                    name = f"events/{event.get('event', 'other')}"
                    row[name] = row.get(name, 0) + 1
            yield step, {name: value for name, value in row.items() if isinstance(value, int | float)}


def last_settled(folder: Path) -> int:
    """The step of the newest published checkpoint, 0 if there is none."""
    newest = next(iter(checkpoint.published(folder / "checkpoints")), None)
    return checkpoint.step_of(newest) if newest is not None else 0


def digest_of(path: Path, size: int) -> str:
    """SHA-256 of the first ``size`` bytes; of less where there is less."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while size and (block := file.read(min(size, _BLOCK))):
                digest.update(block)
                size -= len(block)
    except FileNotFoundError:
        pass  # then it has nothing of what was delivered, which is what the digest says
    return digest.hexdigest()


class _Tail:
    """Complete lines of a file that grows, and that may be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedReader | None = None
        self._offset = 0

    def replaced(self) -> bool:
        """Whether another file has taken the place of the one that was read, which begins anew then."""
        if self._file is None:
            return False
        try:
            found, own = os.stat(self.path), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
            return False
        self._file.close()
        self._file, self._offset = None, 0
        return True

    def seek(self, offset: int) -> None:
        """Goes on from there."""
        self._offset = offset

    def upto(self, last: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Lines and rows of steps up to ``last``; the next call goes on behind them."""
        if self._file is None:
            try:
                self._file = open(self.path, "rb")  # noqa: SIM115 - as long as it is followed
            except FileNotFoundError:
                return
        self._file.seek(self._offset)
        for line in self._file:
            if not line.endswith(b"\n"):
                return  # being written
            try:
                row = json.loads(line)
                step = int(row["step"])
            except (ValueError, TypeError, KeyError):
                raise InputError(f"'{self.path}' holds a line that is no row with a step: {line[:60]!r}") from None
            if step > last:
                return
            self._offset += len(line)
            yield line, row
