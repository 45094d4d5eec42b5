"""Rows of a run's JSON-lines files at a cost that does not grow with the run."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

WHOLE = 8 * 2**20
"""Bytes up to which a file is read as a whole; of a larger one, ``PIECES`` of ``PIECE`` bytes, evenly spread."""
PIECES, PIECE = 400, 16 * 2**10
HELD_OUT = b'"heldout/'

Row = dict[str, Any]


def read_rows(path: Path, step: str = "step") -> list[Row]:
    """Rows that have a step, in order; those with held-out values are never left out. Lines cut short are passed over.

    The file may be written to meanwhile.
    """
    if not path.is_file():
        return []
    size = path.stat().st_size
    if size <= WHOLE:
        found = path.read_bytes().splitlines(keepends=True)
    else:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            found = _sampled(content) + _rare(content)
    rows = {}
    for line in found:
        row = _row(line)
        if row is not None and isinstance(row.get(step), int):
            rows[line] = row
    return sorted(rows.values(), key=lambda row: row[step])


def _sampled(content: mmap.mmap) -> list[bytes]:
    """Whole lines of evenly spread pieces, the first and the last lines among them."""
    found: list[bytes] = []
    last = len(content) - PIECE
    for number in range(PIECES):
        begin = last * number // (PIECES - 1)
        lines = content[begin : begin + PIECE].splitlines(keepends=True)
        found += lines[1 if begin else 0 :]
    return found


def _rare(content: mmap.mmap) -> list[bytes]:
    found, place = [], content.find(HELD_OUT)
    while place >= 0:
        begin, end = content.rfind(b"\n", 0, place) + 1, content.find(b"\n", place) + 1
        if not end:
            break
        found.append(content[begin:end])
        place = content.find(HELD_OUT, end)
    return found


def _row(line: bytes) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
