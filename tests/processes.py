"""Processes as /proc shows them."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children(pid: int) -> list[int]:
    """The children of ``pid``, of all of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile has none
            found += map(int, (task / "children").read_text().split())
    return found


def told(pid: int, file: str) -> bytes:
    """What ``/proc/PID/FILE`` says, nothing of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
