"""Processes as /proc shows them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


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


def gone(pid: int) -> bool:
    """Whether ``pid`` has ended; a zombie has."""
    return told(pid, "stat").rpartition(b")")[2].split()[:1] in ([], [b"Z"])


def until(condition: Callable[[], T], seconds: float = 60.0, every: float = 0.02) -> T:
    """The first true value of ``condition``; an AssertionError when there is none for ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"never came true in {seconds} s"
        time.sleep(every)
    return value
