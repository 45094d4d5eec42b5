"""Decisions to leave samples out, kept so that every later start of the run takes them again.

A decision says: after step c, each task's stream jumps by so many samples. Together they make positions a function of
the step, whichever checkpoint a run goes on from: batches times steps, plus the jumps made at or before that step. They
are on disk in ``decisions.jsonl`` before anything follows from them, and in each later checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain import checkpoint
from pretrain.checkpoint.disk import replace
from pretrain.checkpoint.folder import STATE
from pretrain.checkpoint.manifest import Damaged, verified_json
from pretrain.run import RunDirectory

DECISIONS = "decisions.jsonl"
Decision = dict[str, Any]
"""``step`` (after which), ``jumps`` (task -> samples), ``back`` (whether the run went back there) and ``cause``."""


def holding(rows: Iterable[Decision]) -> list[Decision]:
    """The decisions that still hold: one that went back before another has undone it.

    Args:
        rows: all there were, in the order in which they were taken.
    """
    found: list[Decision] = []
    for row in rows:
        found = [one for one in found if one["step"] <= row["step"]] + [row]
    return found


def jumps(decisions: Iterable[Decision], step: int) -> dict[str, int]:
    """Task -> samples that are jumped over after ``step``."""
    total: dict[str, int] = {}
    for decision in decisions:
        if decision["step"] == step:
            for task, count in decision["jumps"].items():
                total[task] = total.get(task, 0) + count
    return total


def next_jump(decisions: Iterable[Decision], step: int) -> int | None:
    """The first step after ``step`` that a jump follows."""
    return min((decision["step"] for decision in decisions if decision["step"] > step), default=None)


def read(directory: RunDirectory) -> list[Decision]:
    """All decisions of a run, the first ones first.

    Raises:
        InputError: a line is no decision.
    """
    rows = list(directory.rows(DECISIONS))
    for row in rows:
        counts = row.get("jumps")
        if not isinstance(counts, dict) or not all(isinstance(n, int) and n >= 0 for n in counts.values()):
            raise InputError(f"'{directory.path / DECISIONS}' holds a line that is no decision: {str(row)[:80]}")
    return rows


def keep(directory: RunDirectory, rows: Sequence[Decision]) -> None:
    """Replaces the run's decisions; they are on disk when it returns.

    Raises:
        OSError: the disk does not take them.
    """
    replace(directory.path / DECISIONS, "".join(json.dumps(row) + "\n" for row in rows).encode())


def finish(directory: RunDirectory) -> None:
    """Completes a going-back that a kill has cut short: checkpoints of the course turned back from are removed.

    Raises:
        InputError: ``decisions.jsonl`` is damaged.
    """
    rows = read(directory)
    if not rows or not rows[-1]["back"]:
        return
    last = rows[-1]
    for path in checkpoint.published(directory.checkpoints):
        if checkpoint.step_of(path) <= last["step"]:
            return
        known = _recorded(path)
        if known is None:
            continue  # unreadable; whoever reads it whole sets it aside
        if last not in known:
            checkpoint.withdraw(directory.checkpoints, last["step"])
        return


def adopt(directory: RunDirectory, state: Mapping[str, Any] | None) -> list[Decision]:
    """The decisions that hold for a run that goes on from a checkpoint.

    Those of the checkpoint are kept where the run's own file lacks them: it was lost, or the run goes on from another.

    Args:
        directory: of the run.
        state: what the checkpoint says, None for a beginning.
    """
    rows = read(directory)
    missing = [row for row in (state or {}).get("decisions", []) if row not in rows]
    if missing:
        rows = [*missing, *rows]
        keep(directory, rows)
    return holding(rows)


def _recorded(path: Path) -> list[Decision] | None:
    try:
        return list(verified_json(path, STATE).get("decisions", []))
    except (Damaged, AttributeError, TypeError):
        return None
