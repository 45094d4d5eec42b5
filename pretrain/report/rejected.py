"""The samples that a run could not use, counted; the files of a long run may hold very many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pretrain.report.rows import Row


@dataclass
class Rejected:
    """What the quarantine files say.

    Attributes:
        kinds: kind of trouble -> samples.
        tasks: task -> samples.
        first: kind -> its first row.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    first: dict[str, Row] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Counts a row."""
        kind = str(row.get("kind", "unusable"))
        self.kinds[kind] += 1
        self.tasks[str(row.get("task", ""))] += 1
        if kind not in self.first or row["step"] < self.first[kind]["step"]:
            self.first[kind] = row


def read_rejected(paths: Iterable[Path]) -> Rejected:
    """All rows of ``paths`` that have a step; lines cut short are passed over. No file is held as a whole."""
    found = Rejected()
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    continue
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    found.add(row)
    return found
