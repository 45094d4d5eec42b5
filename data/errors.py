"""What can go wrong, in three words: the user's input, the run itself, and a sample (which is survived)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Wrong input: one line that names the value, the place and the choices. The command line exits with code 2."""


class RunError(Exception):
    """The run cannot go on although its input is right: a worker died, a disk is full, the loss is no number.

    One line that names the cause and the next action. The command line exits with code 1; the run can be continued.
    """


class SampleError(Exception):
    """One sample cannot be used. Carries the reason alone; the reader adds the shard and the key."""


def choices(value: str, known: Iterable[str]) -> str:
    """The tail of an error message about an unknown name: the nearest known one, then all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}choices: {', '.join(names) if names else 'none'}"
