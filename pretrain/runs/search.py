"""Run directories below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError
from pretrain.ending import ENDED
from pretrain.lease import LOCK
from pretrain.run import CONFIG, STARTS

_DEPTH = 5  # of sweeps in folders of projects in folders of people
_INNER = {"checkpoints", "launch", "ledger", "tensorboard", "trackers", "wandb"}


def is_run(folder: Path) -> bool:
    """Whether a process of ours has worked in ``folder``."""
    return (folder / LOCK).exists() and any((folder / name).exists() for name in (CONFIG, STARTS, ENDED, "log.txt"))


def the_run(place: str) -> Path:
    """``place`` if it is a run directory.

    Raises:
        InputError: it is none.
    """
    folder = Path(place).expanduser()
    if not is_run(folder):
        raise InputError(f"'{place}' is no run directory; `pretrain runs list FOLDER` names those below a folder")
    return folder


def find(places: list[str]) -> list[Path]:
    """The run directories among and below ``places``, each once, in the order of their names.

    Raises:
        InputError: a place is not there.
    """
    found: dict[Path, None] = {}
    for place in places:
        root = Path(place).expanduser()
        if len(places) > 1 and root.is_file():
            continue  # a shell that spells out SWEEP/* names the sweep's own files as well
        if not root.is_dir():
            raise InputError(f"'{place}' is no folder; give run directories, or folders with some below them")
        found |= dict.fromkeys(_below(root, _DEPTH))
    return list(found)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    inner, names = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.add(entry.name)
                if entry.name not in _INNER and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
    except OSError:  # somebody else's, or gone meanwhile
        return
    if LOCK in names and names & {CONFIG, STARTS, ENDED, "log.txt"}:
        yield folder
    if depth:
        for name in sorted(inner):
            yield from _below(folder / name, depth - 1)
