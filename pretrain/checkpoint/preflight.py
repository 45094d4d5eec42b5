"""Whether checkpoints can be kept where they are to be, found out before the first step. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from data.errors import InputError
from data.words import byte_size
from pretrain.checkpoint.disk import flush, make, remove, write
from pretrain.checkpoint.folder import published
from pretrain.checkpoint.retention import Retention


def preflight(root: Path, retention: Retention, size: int) -> None:
    """Tries what a save will do, and compares the room with what is going to be kept.

    Args:
        root: the run's ``checkpoints/``.
        retention: what is kept.
        size: of one checkpoint, bytes.

    Raises:
        InputError: no permission, or no room for what is kept and one more, which is written before one goes.
    """
    try:
        make(root)
        _try(root)
        found = os.statvfs(root)
    except OSError as error:
        raise InputError(f"checkpoints cannot be written to '{root}': {error.strerror or error}") from None
    there = len(published(root))
    wanted = retention.most + 1
    needed, free = max(1, wanted - there) * size, found.f_bavail * found.f_frsize
    if needed > free:
        raise InputError(
            f"'{root}' has {byte_size(free)} free, but {byte_size(needed)} are needed: checkpoints of "
            f"{byte_size(size)}, of which {wanted - 1} are kept and one more is written before one goes; make room, "
            "give another run_dir, or keep fewer (checkpoint.keep_last, checkpoint.keep_best.count)"
        )


def _try(root: Path) -> None:
    """All kinds of operations that a save needs, on a small scale."""
    probe, moved = root / ".probe.part", root / ".probe.old"
    for path in (probe, moved):
        remove(path)
    probe.mkdir()
    write(probe / "file", [b"can this be written?"])
    os.rename(probe, moved)
    flush(root)
    remove(moved)
