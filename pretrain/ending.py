"""A last word on how work on a run ended, for those who look later. Imports no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

from data.errors import InputError, RunError
from pretrain.redaction import redact
from pretrain.signals import is_stop

ENDED = "ended.json"
DONE, INTERRUPTED, FAILED = "finished", "interrupted", "failed"
_LONGEST = 1000


class Ending:
    """Writes ``ended.json`` (``state`` and ``cause``) when a process stops working on a run; a context around that.

    A killed process leaves none, and the word of an earlier one is taken back at the beginning: who finds none, and
    nobody at work, knows that it was killed.

    Args:
        folder: the run directory; None on all ranks but 0, which write nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / ENDED if folder is not None else None

    def __enter__(self) -> Ending:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.write(DONE, "")
        elif is_stop(error) or isinstance(error, KeyboardInterrupt):
            self.write(INTERRUPTED, str(error) or type(error).__name__)
        elif isinstance(error, InputError | RunError):
            self.write(FAILED, str(error))
        else:
            self.write(FAILED, f"{type(error).__name__}: {error}")

    def write(self, state: str, cause: str) -> None:
        """Leaves the word; a disk that takes none of it must not hide what ended the run.

        Args:
            state: :data:`DONE`, :data:`INTERRUPTED` or :data:`FAILED`.
            cause: for a person; put on one line, without credentials.
        """
        if self._path is None:
            return
        text = json.dumps({"state": state, "cause": redact(" ".join(cause.split())[:_LONGEST])})
        partial = self._path.with_name(f".{ENDED}.part")
        try:
            partial.write_text(text + "\n")
            os.replace(partial, self._path)
        except OSError:
            partial.unlink(missing_ok=True)


def last_word(folder: Path) -> tuple[str, str] | None:
    """State and cause that the last process left; None if it left none, or nothing that can be read."""
    try:
        found = json.loads((folder / ENDED).read_text())
        return str(found["state"]), str(found["cause"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
