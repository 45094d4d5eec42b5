"""Which checkpoints stay. Imports no torch."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from data.errors import InputError, choices
from pretrain.checkpoint.disk import flush, remove
from pretrain.checkpoint.folder import STATE, mark, point, published, step_of, unfinished
from pretrain.checkpoint.manifest import Damaged, read_json, verify

log = logging.getLogger("pretrain")


@dataclass(frozen=True)
class Retention:
    """What is kept; a checkpoint that one of the rules keeps stays.

    Attributes:
        last: the newest so many sound ones, at least 1.
        every_n_steps: all of steps that it divides; None for none.
        best: so many sound ones with the best value of ``metric``, of those at whose step it was measured.
        metric: held-out metric, as ``metrics.jsonl`` has it without ``heldout/``.
        mode: ``min`` or ``max``: which values are good.
        regular: the newest ``regular_last`` of steps that it divides stay as well, so that those that signals save in
            between take the place of none that an undisturbed run would have gone back to; None where a run never does.
        regular_last: see ``regular``.
    """

    last: int = 2
    every_n_steps: int | None = None
    best: int = 0
    metric: str | None = None
    mode: str = "min"
    regular: int | None = None
    regular_last: int = 0

    @property
    def most(self) -> int:
        """How many are kept, those of ``every_n_steps`` apart."""
        return max(1, self.last) + self.regular_last + self.best


def retention_of(options: Mapping[str, Any], rewinds_by: int | None = None) -> Retention:
    """The rules of a config's ``checkpoint`` section.

    Args:
        options: the section.
        rewinds_by: steps that the run may go back, to a checkpoint that must be there then; see
            :func:`pretrain.soundness.policies.rewinds_by`.

    Raises:
        InputError: ``keep_best`` does not say what is best.
    """
    best = options["keep_best"]
    if best["mode"] not in ("min", "max"):
        raise InputError(f"checkpoint.keep_best.mode is '{best['mode']}'; {choices(best['mode'], ('min', 'max'))}")
    if best["count"] and best["metric"] is None:
        raise InputError("checkpoint.keep_best.count needs a held-out metric; give checkpoint.keep_best.metric=NAME")
    metric = best["metric"] if best["count"] else None
    found = Retention(options["keep_last"], options["keep_every_n_steps"], best["count"], metric, best["mode"])
    if rewinds_by is None:
        return found
    regular = options["every_n_steps"]  # the sick step may be the one behind which the newest was saved
    return replace(found, regular=regular, regular_last=max(1, found.last, math.ceil(rewinds_by / regular) + 1))


def prune(root: Path, retention: Retention, known_sound: set[str] | None = None, dry: bool = False) -> list[Path]:
    """Removes what ``retention`` does not keep, and says what.

    Only sound checkpoints count as kept, so that the last one that can be read is never removed. Damaged ones among the
    newest are neither counted nor removed: they are evidence.

    Args:
        root: the run's ``checkpoints/``.
        retention: the rules.
        known_sound: names of those that this process has written or verified itself; they are not read again. Gets
            those that are found sound now.
        dry: say only.

    Raises:
        OSError: one could not be removed.
    """
    verdicts = dict.fromkeys(known_sound or (), True)
    paths = published(root)
    keep = _newest(paths, max(1, retention.last), verdicts)
    if retention.regular is not None:
        regular = [path for path in paths if step_of(path) % retention.regular == 0]
        keep |= _newest(regular, retention.regular_last, verdicts)
    keep |= {p for p in paths if retention.every_n_steps and step_of(p) % retention.every_n_steps == 0}
    keep |= _best(paths, retention, verdicts)
    if known_sound is not None:
        known_sound |= {name for name, sound in verdicts.items() if sound}
    removed = [path for path in paths if path not in keep]
    for path in [] if dry else removed:
        _remove(path)
    return removed


def _newest(paths: list[Path], count: int, verdicts: dict[str, bool]) -> set[Path]:
    kept: set[Path] = set()
    found = 0
    for path in paths:
        if found == count:
            break
        kept.add(path)
        found += _sound(path, verdicts)
    return kept


def _best(paths: list[Path], retention: Retention, verdicts: dict[str, bool]) -> set[Path]:
    if not retention.best or retention.metric is None:
        return set()
    sign = -1.0 if retention.mode == "max" else 1.0
    values = {path: measured(path, retention.metric) for path in paths}
    # Of equal ones the newer: paths come newest first, and sorting keeps that.
    ranked = sorted((sign * v, path) for path, v in values.items() if v is not None)
    ranked.sort(key=lambda one: (one[0], -step_of(one[1])))
    sound = (path for _, path in ranked if _sound(path, verdicts))
    return set(islice(sound, retention.best))


def measured(path: Path, metric: str) -> float | None:
    """The held-out value that was measured at a checkpoint's step; None if none was, or it cannot be read."""
    try:
        value = read_json(path / STATE)["held_out"][metric]
    except (Damaged, OSError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _sound(path: Path, verdicts: dict[str, bool]) -> bool:
    if path.name not in verdicts:
        try:
            verify(path)
            verdicts[path.name] = True
        except Damaged:
            verdicts[path.name] = False
    return verdicts[path.name]


def _remove(path: Path) -> None:
    """First out of the way by one rename that is on disk, so that nothing ever leaves half a checkpoint."""
    grave = path.with_name(f".{path.name}.old")
    remove(grave)
    os.rename(path, grave)
    flush(path.parent)
    remove(grave)


def withdraw(root: Path, after_step: int) -> list[Path]:
    """Removes the checkpoints of steps after ``after_step``, newest first, and says which.

    They are sound, but of a course that the run has turned back from; newest first, so that what a kill leaves is still
    a beginning of that course.

    Raises:
        OSError: one could not be removed.
    """
    removed = [path for path in published(root) if step_of(path) > after_step]
    for path in removed:
        _remove(path)
    left = published(root)
    if removed and left:
        point(root, left[0].name)
    return removed


def sweep(root: Path) -> None:
    """Removes what a killed process left half-written or half-removed, and points to the newest checkpoint."""
    for path in unfinished(root):
        try:
            remove(path)
        except OSError as error:  # a process of the former start may still be writing there, for some seconds
            log.warning("'%s', which a killed process has left, is not removed: %s", path, error)
    found = published(root)
    if found:
        mark(root)
        point(root, found[0].name)
