"""What is in a run's ``checkpoints/``, for people: each folder, whether it is sound, and if not why."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretrain.checkpoint.folder import NAME, POINTER, damaged, ever_published, published, step_of, unfinished
from pretrain.checkpoint.manifest import Damaged
from pretrain.checkpoint.reader import Reader

SOUND, BAD, ASIDE, REMAINS = "sound", "damaged", "set aside", "unfinished"


@dataclass(frozen=True)
class Finding:
    """One folder below ``checkpoints/``.

    Attributes:
        name: of the folder.
        step: of the checkpoint, None where the name does not say.
        bytes: of its files.
        state: ``sound``, ``damaged``, ``set aside`` (found damaged at a start) or ``unfinished`` (left by a killed
            process; invisible to readers, removed at the next start).
        why: what is wrong with it, else empty.
        held_out: metric -> value measured at its step.
    """

    name: str
    step: int | None
    bytes: int
    state: str
    why: str
    held_out: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def inspect(path: Path, state: str = "") -> Finding:
    """Looks at one folder; verifies it, unless ``state`` is what is known of it already."""
    step = step_of(path) if NAME.fullmatch(path.name) else None
    why, held_out = "", {}
    if state != REMAINS:
        try:
            found = Reader(path).state.get("held_out", {})
            held_out = found if isinstance(found, dict) else {}
            state = state or SOUND
        except Damaged as error:
            state, why = state or BAD, str(error)
    size = 0
    with suppress(FileNotFoundError):  # a run that is going removes older ones
        for file in (path, *path.rglob("*")):
            size += file.stat().st_size if file.is_file() and not file.is_symlink() else 0
    return Finding(path.name, step, size, state, why, held_out)


def inspect_all(paths: Iterable[Path], state: str = "") -> list[Finding]:
    """As :func:`inspect` each; what a run that is going has removed by the time it was looked at is left out."""
    found = [(path, inspect(path, state)) for path in paths]
    return [finding for path, finding in found if os.path.lexists(path)]


def survey(root: Path) -> list[Finding]:
    """All that is below ``root``: published newest first, then what was set aside, then what killed processes left."""
    found = inspect_all(published(root)) + inspect_all(damaged(root), ASIDE)
    return found + inspect_all(unfinished(root), REMAINS)


def diagnosis(root: Path, findings: list[Finding]) -> list[str]:
    """What a start would do, and what deserves a look, in sentences."""
    lines = []
    visible = [one for one in findings if one.state in (SOUND, BAD)]
    sound = [one for one in visible if one.state == SOUND]
    bad = [one for one in visible if one.state == BAD]
    if sound:
        lines.append(f"the same command goes on from {sound[0].name}")
        passed = [one for one in bad if (one.step or 0) > (sound[0].step or 0)]
        if passed:
            names = ", ".join(one.name for one in passed)
            lines.append(f"it renames {names} to damaged-*, and does the steps after {sound[0].step} again")
    elif bad or ever_published(root) or any(one.state == ASIDE for one in findings):
        lines.append(
            "the same command refuses to go on: there were checkpoints and none is sound; put one back (from a copy), "
            "or give another run_dir to begin anew"
        )
    else:
        lines.append("no checkpoint was published yet: the same command begins at step 0")
    pointer = root / POINTER
    if sound and (
        not pointer.is_file() or pointer.read_bytes()[:100].decode(errors="replace").strip() != sound[0].name
    ):
        lines.append(f"'{POINTER}' does not name {sound[0].name}; it is a hint only, and set right at the next start")
    remains = [one for one in findings if one.state == REMAINS]
    if remains:
        size = sum(one.bytes for one in remains)
        lines.append(
            f"{len(remains)} unfinished ({size / 1e6:.1f} MB) are removed at the next start, if no run is going"
        )
    return lines
