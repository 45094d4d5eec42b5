"""The ends of long files of JSON rows, without reading the rest. Imports no torch."""

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
    return list(_rows(lines[-count:] if size == end else lines[1:][-count:]))


def some_rows(path: Path) -> list[Row]:
    """All rows of a short file, rows from all over a long one."""
    return list(_rows(_some_lines(path)))


def some_values(path: Path, key: str) -> list[float]:
    """What :func:`some_rows` have under ``key``, finite numbers; many times faster, as no row is decoded."""
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


def _rows(lines: list[bytes]) -> Iterator[Row]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # cut in two by a crash; what it said is gone
            continue
        if isinstance(row, dict):
            yield row
