"""What came out of a test, as numbers and as tables for people. N samples that it applies to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretrain.evaluation.behaviour.suite import Test
from pretrain.evaluation.scores import Scores, Table

_LONGEST = 160  # characters of a text that are shown


@dataclass
class Outcome:
    """One test, measured.

    Attributes:
        test: which.
        failed: (N,) bool.
        found: (N,) what was measured: a cosine, a difference, a rank.
        wanted: what it should have been, in words.
        badness: (N,) by which failures are sorted, the worst is the highest.
        notes: N of ``key`` and ``texts``.
        sides: of the notes' texts, which are shown: before and after.
        chance: share of failures of who guesses; None where there is nothing to guess.
    """

    test: Test
    failed: np.ndarray
    found: np.ndarray
    wanted: str
    badness: np.ndarray
    notes: Sequence[dict[str, Any]]
    sides: tuple[str, str]
    chance: float | None = None

    @property
    def share(self) -> float:
        """Of failures."""
        return float(self.failed.mean())

    @property
    def passed(self) -> bool:
        """Whether no more failed than is allowed."""
        return self.share <= self.test.allowed


def scores(outcomes: Sequence[Outcome]) -> Scores:
    """``TEST_failures``, a share, of each, and ``failed_tests``: of how many more failed than is allowed."""
    found: Scores = {}
    for one in outcomes:
        found[f"{one.test.name}_failures"] = {"value": one.share} | (
            {} if one.chance is None else {"chance": one.chance}
        )
    return found | {"failed_tests": {"value": float(sum(not one.passed for one in outcomes))}}


def tables(name: str, outcomes: Sequence[Outcome], show: int) -> list[Table]:
    """The tests with their verdicts, and of each that has failures the ``show`` worst."""
    verdicts: Table = {
        "kind": "behaviour",
        "title": f"{name}: behavioural tests",
        "columns": ["test", "kind", "what must be", "failed>", "of>", "share>", "allowed>", "verdict"],
        "rows": [_verdict(one) for one in outcomes],
    }
    failures: Table = {
        "kind": "failures",
        "title": f"{name}: the worst failures, at most {show} a test",
        "columns": ["test", "sample", "found>", "wanted", "as it is", "changed"],
        "rows": [row for one in outcomes for row in _failures(one, show)],
    }
    return [verdicts, failures] if failures["rows"] else [verdicts]


def _verdict(one: Outcome) -> list[Any]:
    failed, count = int(one.failed.sum()), len(one.failed)
    verdict = "passed" if one.passed else "FAILED"
    return [one.test.name, one.test.kind, one.test.asks, failed, count, one.share, one.test.allowed, verdict]


def _failures(one: Outcome, show: int) -> list[list[Any]]:
    places = np.flatnonzero(one.failed)
    worst = places[np.argsort(-one.badness[places], kind="stable")][:show]
    before, after = one.sides
    rows = []
    for place in worst.tolist():
        note, found = one.notes[place], float(one.found[place])
        texts = [_short(note["texts"].get(before)), _short(note["texts"].get(after)) if after != before else None]
        rows.append([one.test.name, note["key"], found if np.isfinite(found) else str(found), one.wanted, *texts])
    return rows


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
