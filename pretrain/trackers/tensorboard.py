"""TensorBoard's files, in ``tensorboard/`` of the run directory."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain.trackers.delivered import Delivered
from pretrain.trackers.tracker import Tracker, TrackerError

_OWN = "events.out.tfevents.*"


class TensorBoard(Tracker):
    """A file for each time that the run was followed; each step is in one of them.

    Args:
        directory: of the run.

    Raises:
        InputError: the package is not installed.
    """

    key = "tensorboard"
    answers = False

    def __init__(self, directory: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise InputError("the package tensorboard is not installed; pip install tensorboard, or give logger=none")
        self.folder = directory / "tensorboard"
        self._writer: Any = None
        self._before: set[Path] = set()

    def has(self, delivered: Delivered) -> bool:
        """See :class:`Tracker`. All it has are the files."""
        return all((self.folder / name).exists() for name in delivered.segments)

    def begin(self, delivered: Delivered, patience_s: float) -> int:
        """See :class:`Tracker`. Its files can be taken back: a new history replaces the former."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        for left in self.folder.glob(_OWN):
            if left.name not in delivered.segments:
                left.unlink()
        self._before = set(self.folder.glob(_OWN))
        try:
            self._writer = EventFileWriter(str(self.folder), flush_secs=10)
        except OSError as error:
            raise TrackerError(f"'{self.folder}' cannot be written: {error.strerror or error}") from None
        return delivered.step

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        try:
            self._writer.add_event(Event(step=step, summary=Summary(value=numbers)))
        except OSError as error:
            raise TrackerError(f"'{self.folder}' cannot be written: {error.strerror or error}") from None

    def finish(self) -> str:
        """See :class:`Tracker`."""
        try:
            self._writer.close()
        except OSError as error:
            raise TrackerError(f"'{self.folder}' cannot be written: {error.strerror or error}") from None
        [own] = set(self.folder.glob(_OWN)) - self._before
        return own.name
