"""A mark in the run directory that somebody has asked the run to stop: for processes that a launcher starts again.

To torchrun a process that saves and ends because it was told to has failed, and with ``max_restarts`` it starts all of
them anew. Those look for the mark. Whoever starts the run afresh takes it away. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MARK = "stop-asked"
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


def put(folder: Path) -> bool:
    """Leaves it in the run directory ``folder``; False where this process may not write."""
    try:
        (folder / MARK).touch()
    except OSError:
        return False
    return True


def take_back(folder: Path) -> None:
    """Removes it, if it is there."""
    (folder / MARK).unlink(missing_ok=True)


def heeded(folder: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started again by a launcher, and is to end at once as the run was asked to stop."""
    return environment.get(_RESTARTS, "0") != "0" and (folder / MARK).exists()
