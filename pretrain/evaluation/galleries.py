"""What a run shows of its held-out data without being asked: one gallery of each source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pretrain.evaluation.kinds.gallery import MOST, Gallery
from pretrain.model import Model

_AT_MOST = 4
_TIMES = 10
"""At most so often in a run, beside the end: a long one measures far more often than anybody looks."""


def galleries(config: Mapping[str, Any], model: Model) -> dict[str, Gallery]:
    """Name -> gallery, of each held-out source: all of its encoders that share a joint space, or the first of them.

    Args:
        config: of the run, resolved.
        model: of the run.
    """
    samples = min(MOST, config["report"]["samples"])
    if not config["report"]["enabled"] or not samples:
        return {}
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, task in model.tasks.items():
        for pattern in _patterns(config["tasks"][name]["heldout"]):
            encoders = groups.setdefault(repr(pattern), (pattern, []))[1]
            encoders += [encoder for encoder in task.sides.values() if encoder not in encoders]
    every = config["evaluate"]["every_n_steps"]
    every *= max(1, -(-config["max_steps"] // (_TIMES * every)))
    found: dict[str, Gallery] = {}
    for pattern, encoders in list(groups.values())[:_AT_MOST]:
        joint = _joint(model, encoders)
        sides = encoders if joint is not None else encoders[:1]
        if joint is not None:
            sides = [name for name in encoders if str(joint) in _projections(model, name)]
        name, number = "-".join(sides), 2
        while name in found or name in config["evaluators"]:
            name, number = f"{'-'.join(sides)}-{number}", number + 1
        found[name] = Gallery({one: one for one in sides}, pattern, joint, samples, every_n_steps=every)
    return found


def _patterns(heldout: Any) -> list[Any]:
    """The pattern of each source of a task's held-out data."""
    entries = heldout.values() if isinstance(heldout, Mapping) else [] if heldout is None else [heldout]
    return [entry["pattern"] if isinstance(entry, Mapping) else entry for entry in entries]


def _projections(model: Model, encoder: str) -> list[str]:
    projections: Any = model.encoders[encoder].projections
    return list(projections)


def _joint(model: Model, encoders: list[str]) -> int | None:
    """The joint space of most of the encoders, None where no two share one."""
    sizes = [size for name in encoders for size in _projections(model, name)]
    best = max(sizes, key=sizes.count, default=None)
    return int(best) if best is not None and sizes.count(best) > 1 else None
