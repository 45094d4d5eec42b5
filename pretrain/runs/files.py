"""Files of JSON rows: all of them, their number, or the ends of long ones without the rest. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_BLOCK = 16384
_WHOLE = 1 << 18
_SAMPLES = 64


def last_rows(path: Path, count: int = 1) -> list[Row]:
    """The last ``count`` complete rows of a file, oldest first; fewer if it has fewer, none if it is not there."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            size, text = 0, b""
            while size < end and text.count(b"\n") <= count:
                size = min(end, max(_BLOCK, 4 * size))
                file.seek(end - size)
                text = file.read(size)
    except OSError:
        return []
    lines = text.split(b"\n")[:-1]  # what follows the last line end was cut short, or is being written
    return list(rows_of(lines[-count:] if size == end else lines[1:][-count:]))


def all_rows(path: Path) -> list[Row]:
    """All complete rows of a file, oldest first; none if it is not there."""
    return list(rows_of(complete_lines(path)))


def complete_lines(path: Path) -> list[bytes]:
    """The lines of a file as they stand there, but for what is cut short behind the last line end."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return []


def count_lines(path: Path) -> int:
    """How many complete lines a file has, which may be long; 0 if it is not there."""
    try:
        with open(path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_WHOLE), b""))
    except OSError:
        return 0


def some_values(path: Path, key: str) -> list[float]:
    """Finite numbers under ``key`` of all rows of a short file, of rows from all over a long one; none is decoded."""
    found = re.compile(rb'"%s": ?(-?[0-9][0-9.eE+-]*)[,}]' % re.escape(key.encode()))
    return [float(value) for value in found.findall(b"\n".join(_some_lines(path)))]


def _some_lines(path: Path) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            if end <= _WHOLE:
                file.seek(0)
                return file.read().split(b"\n")[:-1]
            found: list[bytes] = []
            for sample in range(_SAMPLES):
                file.seek((end - _BLOCK // 4) * sample // (_SAMPLES - 1))
                found += file.read(_BLOCK // 4).split(b"\n")[1:-1]
            return found
    except OSError:
        return []


def rows_of(lines: list[bytes]) -> Iterator[Row]:
    """The rows that ``lines`` hold; what is none is passed over."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # cut in two by a crash; what it said is gone
            continue
        if isinstance(row, dict):
            yield row
