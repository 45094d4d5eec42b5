"""A run's rows as they come, also across its restarts. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from pretrain.run import EVENTS, METRICS, SPEED
from pretrain.runs.files import Row, complete_lines, last_rows, rows_of
from pretrain.runs.holder import holder

_LOOK_S = 0.5
_MOST = 1000  # rows between two looks


class Following:
    """The lines of a run.

    Args:
        folder: the run directory.
        count: how many of the last steps to begin with.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self._rows = last_rows(folder / METRICS, count) if count > 0 else []
        self._step = last_step(folder)
        self._stamp = _stamp(folder / EVENTS)
        self._told = set(complete_lines(folder / EVENTS))

    def so_far(self) -> Iterator[str]:
        """A line for each of the last steps."""
        yield from self._lines(self._rows)

    def further(self) -> Iterator[str]:
        """A line for each new step and event, until nobody works on the run any more."""
        working = True
        while working:
            working = holder(self.folder).active is not False
            yield from self._news()
            if working:
                time.sleep(_LOOK_S)

    def _news(self) -> Iterator[str]:
        now = last_step(self.folder)
        if now < self._step:
            yield f"went back from step {self._step} to {now}"
            self._step = now
        if now > self._step:
            rows = last_rows(self.folder / METRICS, min(_MOST, now - self._step))
            yield from self._lines([row for row in rows if row["step"] > self._step])
            self._step = now
        stamp = _stamp(self.folder / EVENTS)
        if stamp != self._stamp:  # longer, or written anew by a run that went back, with rows that were told before
            self._stamp = stamp
            fresh = [one for one in complete_lines(self.folder / EVENTS) if one not in self._told]
            self._told.update(fresh)
            yield from (f"event at step {row.get('step')}: {described(row)}" for row in rows_of(fresh))

    def _lines(self, rows: list[Row]) -> Iterator[str]:
        speeds = {row["step"]: row for row in last_rows(self.folder / SPEED, len(rows) + _MOST)}
        for row in rows:
            yield line(row, speeds.get(row["step"]))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def last_step(folder: Path) -> int:
    """Of the newest row; 0 before the first."""
    return max((int(row["step"]) for row in last_rows(folder / METRICS)), default=0)


def line(row: Row, speed: Row | None) -> str:
    """``step 40  loss 5.1  mlm 5.1  held out mlm/prose/loss 6.5  61 samples/s  wait 3 %``."""
    parts = [f"step {row['step']}"]
    if "loss" in row:
        parts.append(f"loss {row['loss']:.4g}")
    tasks = [name for name in row if name.endswith("/loss") and name.count("/") == 1]
    parts += [f"{name.removesuffix('/loss')} {row[name]:.4g}" for name in tasks]
    parts += [f"{name} {value:.4g}" for name, value in row.items() if name.startswith("heldout/")]
    if row.get("skipped"):
        parts.append("update left out")
    if speed and speed["seconds"]:
        parts.append(f"{speed['samples'] / speed['seconds']:.0f} samples/s")
        parts.append(f"wait {100 * speed['data_wait'] / speed['seconds']:.0f} %")
    return "  ".join(parts)


def described(event: Row) -> str:
    """An event's kind and numbers, without the samples."""
    return "  ".join(f"{key} {value}" for key, value in event.items() if key not in ("step", "samples"))
