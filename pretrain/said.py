"""What several processes of a host would say alike is said once. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_PLACE = "PRETRAIN_SAID"
"""Of the environment: a file with the lines that one of the processes has said."""


@contextmanager
def said_together() -> Iterator[dict[str, str]]:
    """What the environment of processes holds that speak as one, as long as they live."""
    with tempfile.NamedTemporaryFile(prefix="pretrain-said-") as file:
        yield {_PLACE: file.name}


def say(lines: Sequence[str]) -> None:
    """Prints to stderr those of ``lines`` that no process which speaks with this one has said."""
    try:
        file = open(os.environ[_PLACE], "r+", encoding="utf-8")  # noqa: SIM115 - closed below
    except (KeyError, OSError):  # this one speaks for itself, or outlives the others
        print(*lines, sep="\n", file=sys.stderr)
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = file.read().splitlines()
        new = [line for line in lines if line not in known]
        file.writelines(f"{line}\n" for line in new)
        if new:
            print(*new, sep="\n", file=sys.stderr, flush=True)
