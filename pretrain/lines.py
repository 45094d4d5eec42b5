"""Rows as they stand in a file, whatever has happened to it: read one after the other, and cut at a step."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import InputError

log = logging.getLogger("pretrain")


def lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
    """Number, counted from 1, line and row; None for a line that is damaged."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # cut short by the end of the process that wrote it
            try:
                row = json.loads(line.decode())
                int(row["step"])
            except (ValueError, TypeError, KeyError):
                row = None
            yield number, line, row


def no_row(path: Path, number: int, line: bytes) -> str:
    """What to say of a damaged line."""
    text = line.decode(errors="backslashreplace")[:60]
    return f"'{path}' holds a line that is no row with a step: {text!r} (line {number})"


def until(path: Path, step: int) -> list[bytes]:
    """The lines of steps up to ``step``. At a damaged line the file ends, if what is behind it is of no such step.

    What a checkpoint stands behind was on disk before it. So a damaged line behind the rows of its step is of what came
    later; as is one with zeros, wherever it stands: a host that dies leaves them for what it had not brought to disk.

    Raises:
        InputError: a line is damaged, and may be of such a step.
    """
    kept: list[bytes] = []
    reached, end = 0, (0, b"")
    for number, line, row in lines(path):
        if row is None:
            end = end if end[0] else (number, line)
        elif not end[0]:
            reached = max(reached, row["step"])
            if row["step"] <= step:
                kept.append(line)
        elif row["step"] <= step:
            reached = -1  # so there are rows that must stay on both sides
    number, line = end
    if not number:
        return kept
    if reached < 0 or (reached < step and b"\0" not in line):
        raise InputError(
            f"{no_row(path, number, line)}, which may be of a step up to {step}, where the run goes on; put the file "
            "back from a copy, or remove that line, and the same command continues"
        )
    log.warning(
        "%s; it and what follows it are dropped: the run goes on from step %d", no_row(path, number, line), step
    )
    return kept
