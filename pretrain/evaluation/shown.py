"""What a run shows of held-out samples: ``RUN/shown/NAME.json``, replaced at each measurement. Imports no torch."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from data.errors import InputError
from pretrain.checkpoint.disk import make, replace

log = logging.getLogger("pretrain")

FOLDER = "shown"
Exhibit: TypeAlias = dict[str, Any]
"""See :func:`pretrain.evaluation.exhibit.exhibit`; read from a file also with ``step`` and ``name``."""


def encoded(found: Exhibit) -> bytes:
    """As it is written."""
    return json.dumps(found, separators=(",", ":")).encode()


def write(run: Path, step: int, name: str, shown: Exhibit) -> None:
    """Writes ``RUN/shown/NAME.json``, unless there is one of a later step.

    Raises:
        OSError: the disk does not take it.
    """
    path = run / FOLDER / f"{name}.json"
    before = _read(path)
    if before is not None and before["step"] > step:
        return
    make(path.parent)
    replace(path, encoded({"step": step, "name": name, **shown}))


def write_all(run: Path, step: int, evaluators: Iterable[Any]) -> None:
    """Writes what ``evaluators`` have to show after ``step``. A full disk is a warning."""
    for one in evaluators:
        found, name = getattr(one, "shown", None), getattr(one, "name", "")
        if found is None:
            continue
        try:
            write(run, step, name, found)
        except OSError as error:
            log.warning("what '%s' shows of held-out data cannot be written: %s", name, error)


def all_of(run: Path) -> list[Exhibit]:
    """What there is, by name."""
    return [found for path in sorted((run / FOLDER).glob("*.json")) if (found := _read(path)) is not None]


def drop_after(run: Path, step: int) -> None:
    """Removes what was shown after ``step``: the run has gone back, and will come there with other weights."""
    for path in (run / FOLDER).glob("*.json"):
        found = _read(path)
        if found is not None and found["step"] > step:
            path.unlink(missing_ok=True)


def _read(path: Path) -> Exhibit | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def file_name(name: str) -> str:
    """Checks that ``name`` can be that of a file.

    Raises:
        InputError: it cannot.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise InputError(f"evaluators.{name}: what is shown lies in a file of that name; give one without '/' or '.'")
    return name
