"""From what was embedded or guessed to the outcome of a test; None where it applies to no sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.seeds import derive
from pretrain.evaluation.behaviour.masked import Guesses
from pretrain.evaluation.behaviour.outcome import Outcome
from pretrain.evaluation.behaviour.suite import ABILITY, INVARIANCE, ORIGINAL, PAIR, Test
from pretrain.evaluation.behaviour.variants import applying
from pretrain.evaluation.features import Embedded
from pretrain.evaluation.metrics.behaviour import cosines, nearer, nearest_class, ranks

COIN = 0.5


def sides_of(test: Test) -> dict[str, Any]:
    """Side -> its changes, of those that a test has besides the original."""
    found = {changed(test): test.change} if test.change else {}
    return found | ({compared(test): test.than} if test.than else {})


def changed(test: Test) -> str:
    """The side with the test's change."""
    return test.name


def compared(test: Test) -> str:
    """The side that it is compared with."""
    return f"{test.name}/than" if test.than else ORIGINAL


def embedded_outcome(test: Test, embedded: Embedded) -> Outcome | None:
    """Of a test of embeddings."""
    places = np.flatnonzero(applying(embedded.notes, list(sides_of(test))))
    if not len(places):
        return None
    notes = [embedded.notes[place] for place in places.tolist()]
    if test.kind == ABILITY:
        return _nearer(test, embedded, notes)
    rows = {side: own[places] for side, own in embedded.rows.items()}
    if test.kind == INVARIANCE:
        return _invariance(test, embedded, places, rows, notes)
    reference = rows[PAIR if test.of == PAIR else ORIGINAL]
    difference = cosines(rows[changed(test)], reference) - cosines(rows[compared(test)], reference)
    return _direction(test, difference, notes)


def guessed_outcome(test: Test, found: Guesses, entries: int) -> Outcome | None:
    """Of a test of hidden words.

    Args:
        test: which.
        found: what the model thinks.
        entries: V of the vocabulary.
    """
    if not found.notes:
        return None
    if test.kind == ABILITY:
        places = np.flatnonzero(found.ranks[ORIGINAL])
        rank, wanted = found.ranks[ORIGINAL][places], f"rank <= {test.top}"
        notes = [found.notes[place] for place in places.tolist()]
        chance = max(0.0, 1 - (test.top or 0) / entries)
        return _outcome(test, rank > (test.top or 0), rank, wanted, rank, notes, (ORIGINAL, ORIGINAL), chance)
    after, before = ("changed", ORIGINAL) if test.cases else (changed(test), compared(test))
    places = np.flatnonzero((found.ranks[after] > 0) & (found.ranks[before] > 0))
    difference = (found.logs[after] - found.logs[before])[places]
    return _direction(test, difference, [found.notes[place] for place in places.tolist()], (before, after))


def _invariance(test: Test, embedded: Embedded, places: np.ndarray, rows: Any, notes: Any) -> Outcome | None:
    shown = (ORIGINAL, changed(test))
    own = cosines(rows[changed(test)], rows[ORIGINAL])
    if test.cosine is not None:
        return _outcome(test, ~(own >= test.cosine), own, f">= {test.cosine:g}", -own, notes, shown)
    originals = embedded.rows[ORIGINAL]
    if test.top is not None:
        everyone = originals[np.concatenate([places, np.setdiff1d(np.arange(len(originals)), places)])]
        rank = ranks(rows[changed(test)], everyone)
        return _outcome(test, ~(rank <= test.top), rank, f"rank <= {test.top}", rank, notes, shown)
    before, after = (nearest_class(x, originals, embedded.labels) for x in (rows[ORIGINAL], rows[changed(test)]))
    broken = ~np.isfinite(own)
    return _outcome(test, (before != after) | broken, own, "the same class", -own, notes, shown)


def _direction(test: Test, difference: np.ndarray, notes: Any, shown: tuple[str, str] | None = None) -> Outcome | None:
    signed = difference if test.higher else -difference
    wanted = f"> {test.margin:g}" if test.higher else f"< {0 - test.margin:g}"
    sides = shown or (compared(test), changed(test))
    return _outcome(test, ~(signed > test.margin), difference, wanted, -signed, notes, sides, COIN)


def _nearer(test: Test, embedded: Embedded, notes: Sequence[dict[str, Any]]) -> Outcome | None:
    count = len(notes)
    starts = np.array([derive("behaviour", test.name, note["key"]) % count for note in notes])
    own, other, whose = nearer(embedded.rows[ORIGINAL], embedded.rows[PAIR], starts)
    places = np.flatnonzero(whose >= 0)
    difference = (own - other)[places]
    told = []
    for place in places.tolist():
        there = notes[int(whose[place])]
        texts = notes[place]["texts"] | {"other": there["texts"].get(ORIGINAL)}
        told.append({"key": f"{notes[place]['key']}, not {there['key']}", "texts": texts})
    shown = (ORIGINAL, "other")
    return _outcome(test, ~(difference > 0), difference, "> 0", -difference, told, shown, COIN)


def _outcome(
    test: Test,
    failed: np.ndarray,
    found: np.ndarray,
    wanted: str,
    badness: np.ndarray,
    notes: Sequence[dict[str, Any]],
    sides: tuple[str, str],
    chance: float | None = None,
) -> Outcome | None:
    bad = np.where(np.isfinite(badness), badness, np.inf)
    return Outcome(test, failed, found, wanted, bad, notes, sides, chance) if len(failed) else None
