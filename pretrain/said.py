"""What the processes of a host that one parent has started share: what they said alike, and whether they have met.

Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PLACE = "PRETRAIN_SAID"
"""Of the environment: a file with the lines that one of the processes has said."""
_MET = "the processes have met"


class Together:
    """Processes that speak as one; for their parent, and as long as they live.

    Attributes:
        environment: what is added to theirs.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.environment = {_PLACE: path}

    @property
    def met(self) -> bool:
        """Whether they know of one another's end by themselves."""
        return _MET in Path(self._path).read_text(encoding="utf-8").splitlines()


@contextmanager
def together() -> Iterator[Together]:
    """For processes that are to be started."""
    with tempfile.NamedTemporaryFile(prefix="pretrain-said-") as file:
        yield Together(file.name)


def say_met() -> None:
    """Tells the parent, if there is one, that the processes have met."""
    if _PLACE in os.environ:
        with contextlib.suppress(FileNotFoundError), open(os.environ[_PLACE], "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # what say() writes stands where it has read to
            file.write(f"{_MET}\n")


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
