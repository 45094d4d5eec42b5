"""Where checkpoints lie and what they are called. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pretrain.checkpoint.disk import flush, remove, replace, write

MANIFEST = "manifest.json"
STATE = "state.json"
INDEX = "index.json"
POINTER = "last"
MARKER = "published"
NAME = re.compile(r"step-(\d{8,18})")


def directory_name(step: int) -> str:
    """``step-00000100``."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"'{path}' is not named like a checkpoint")
    return int(match.group(1))


def published(root: Path) -> list[Path]:
    """Checkpoint folders below ``root``, newest first; whether they are sound is for :func:`verify` to say."""
    if not root.is_dir():
        return []
    found = [(int(m.group(1)), p) for p in root.iterdir() if (m := NAME.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(found, reverse=True)]


def point(root: Path, name: str) -> None:
    """Lets ``last`` name a checkpoint: a hint for people, which readers do without."""
    partial = root / f".{POINTER}.part"
    remove(partial)
    write(partial, [f"{name}\n".encode()])
    os.replace(partial, root / POINTER)


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint to ``damaged-...``: it is not read again, and not lost as evidence."""
    number, target = 1, path.with_name(f"damaged-{path.name}")
    while target.exists():
        number += 1
        target = path.with_name(f"damaged-{path.name}-{number}")
    os.rename(path, target)
    flush(path.parent)
    return target


def damaged(root: Path) -> list[Path]:
    """What :func:`set_aside` has put aside below ``root``."""
    return sorted(root.glob("damaged-*"))


def unfinished(root: Path) -> list[Path]:
    """What a killed process left half-written or half-removed below ``root``."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.iterdir() if p.name.startswith(".") and p.name.endswith((".part", ".old")))


def mark(root: Path) -> None:
    """Leaves a word beside ``root`` that a checkpoint was published in it; stays when the checkpoints go."""
    marker = root.with_name(MARKER)
    if not marker.exists():
        replace(marker, b"a checkpoint of this run was published\n")


def ever_published(root: Path) -> bool:
    """Whether :func:`mark` was called: without a checkpoint now, all of them are lost."""
    return root.with_name(MARKER).exists()
