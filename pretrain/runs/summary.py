"""What a run directory says about its run. Imports no torch: a thousand of them are looked at in a second or two."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from pretrain.attempts import PROGRESS
from pretrain.checkpoint.folder import published, step_of
from pretrain.ending import DONE, FAILED, INTERRUPTED, last_word
from pretrain.run import CONFIG, METRICS, SPEED, STARTS, is_start
from pretrain.runs.files import Row, all_rows, last_rows, some_values
from pretrain.runs.holder import Holder, holder

RUNNING, UNKNOWN = "running", "unknown"
STATES = (RUNNING, INTERRUPTED, DONE, FAILED, UNKNOWN)
KILLED = "no last word: killed, or its host was lost"
_RECENT = 20
_MAX_STEPS = re.compile(r"^max_steps: (\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Summary:
    """One run.

    Attributes:
        path: its directory, as it was found.
        state: one of :data:`STATES`.
        cause: why it was interrupted or failed; "" otherwise.
        step, max_steps: updates done and wanted; the latter 0 if it never came so far as to say.
        loss: weighted sum of the tasks at the last row; None before the first.
        samples_per_s: median of the last steps, all ranks together; 0 before the first.
        seconds_left: at that speed; None where it is not known or nothing is left.
        goodput: share of the time in which processes were at work that became steps which count; None before any.
        at_work_s: that time: from each process's start to its end.
        checkpoint: step of the newest, None if there is none.
        starts: how often it was started.
        host, pid: of the process at work, or the last one.
        seen: when it last gave a sign of life, seconds since 1970; 0 for never.
    """

    path: str
    state: str
    cause: str
    step: int
    max_steps: int
    loss: float | None
    samples_per_s: float
    seconds_left: float | None
    goodput: float | None
    at_work_s: float
    checkpoint: int | None
    starts: int
    host: str
    pid: int
    seen: float

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def summarise(folder: Path) -> Summary:
    """Reads the ends of the files of the run directory ``folder``; changes nothing, waits for nobody."""
    held = holder(folder)
    last = next(iter(last_rows(folder / METRICS)), {})
    speed = last_rows(folder / SPEED, _RECENT)
    seconds = median(row["seconds"] for row in speed) if speed else 0.0
    newest = next(iter(published(folder / "checkpoints")), None)
    checkpoint = step_of(newest) if newest is not None else None
    step, max_steps = max(int(last.get("step", 0)), checkpoint or 0), max_steps_of(folder)
    state, cause = _state(folder, held, checkpoint, max_steps)
    rows = starts(folder)
    seen = _mtime(folder / PROGRESS)
    worked = at_work(rows, time.time() if state == RUNNING else seen)
    kept = _kept(folder, step)
    left = max_steps - step
    return Summary(
        path=str(folder),
        state=state,
        cause=cause,
        step=step,
        max_steps=max_steps,
        loss=last.get("loss"),
        samples_per_s=median(row["samples"] / row["seconds"] for row in speed if row["seconds"]) if seconds else 0.0,
        seconds_left=left * seconds if seconds and left > 0 and state != DONE else None,
        goodput=min(1.0, kept / worked) if kept and worked else None,
        at_work_s=worked,
        checkpoint=checkpoint,
        starts=len(rows),
        host=held.host,
        pid=held.pid,
        seen=seen,
    )


def _state(folder: Path, held: Holder, checkpoint: int | None, max_steps: int) -> tuple[str, str]:
    if held.active:
        return RUNNING, ""
    word = last_word(folder)
    if max_steps and checkpoint is not None and checkpoint >= max_steps:
        return DONE, ""
    if word is not None and word[0] in (INTERRUPTED, FAILED):
        return word
    if held.active is None:
        return UNKNOWN, "the file system cannot say whether somebody works here"
    return INTERRUPTED, "" if word is not None else KILLED  # done, but with fewer steps than are wanted now


def starts(folder: Path) -> list[Row]:
    """The rows of a run's starts, oldest first; those of turning back within one are left out."""
    return list(filter(is_start, all_rows(folder / STARTS)))


def at_work(rows: list[Row], end: float) -> float:
    """Seconds from each start's process beginning to its end.

    Args:
        rows: of ``starts.jsonl``. Where one does not say when the process before it ended, that time is not counted.
        end: of the last process, or now.
    """
    ends = [*(row.get("previous_end") for row in rows[1:]), end]
    spans = [(row.get("began"), until) for row, until in zip(rows, ends, strict=False)]
    return sum(max(0.0, until - began) for began, until in spans if began is not None and until is not None)


def _kept(folder: Path, step: int) -> float:
    """Seconds of all steps that count: those of undone steps were dropped from the file when the run went back."""
    found = some_values(folder / SPEED, "seconds")
    return step * sum(found) / len(found) if found else 0.0


def max_steps_of(folder: Path) -> int:
    """Of the config in ``folder``; 0 if there is none."""
    try:
        # Reading the YAML of a thousand runs takes seconds; this key stands at the left of a line of its own.
        found = _MAX_STEPS.search((folder / CONFIG).read_text(errors="replace"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def when(row: Row) -> float:
    """When the start of a row was, in seconds since 1970."""
    return datetime.fromisoformat(row["time"]).timestamp()
