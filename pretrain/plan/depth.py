"""Deep trunks planned by shallow ones: blocks of a kind cost alike, so that a few stand for all of them.

A step is rehearsed with the least depth that has each kind of block, and once more a trunk with one more round of them.
What the round adds is what every further round adds: FLOPs, bytes of weights and state, and the height of memory in
each stretch of the step. Stretches end where the first or the last block of a trunk begins or is done with, forward and
backward, so that equal ones have equal order at any depth. Within one, memory grows by equal amounts with each round;
which of them is the highest may change with the depth (activations pile up forward, gradients backward), and is found
among the extended ones. All of it is exact but for a stretch that has both: that lies between two that are extended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

from modalities.transformer import Transformer
from pretrain.model import Model
from pretrain.plan.rehearsal import Rehearsal

Config = Mapping[str, Any]
_LEAST = 2
"""Blocks that are always rehearsed: the first may differ from the others."""


@dataclass(frozen=True)
class Deep:
    """A trunk that is rehearsed with fewer blocks.

    Attributes:
        encoder: whose it is.
        least: blocks of the shallow one; as many as make whole rounds of the others.
        round: blocks that follow one another in a pattern: local and global ones, ones that are computed again.
        further: rounds that the shallow one lacks.
    """

    encoder: str
    least: int
    round: int
    further: int


def deep_trunks(config: Config, model: Model) -> list[Deep]:
    """Those of ``model`` that are worth it; its trunks are set as the run will have them.

    None where the blocks to rehearse would not be half as many. A trunk that leaves out blocks at random is rehearsed
    as it is, as two draws cannot be compared.
    """
    found: list[Deep] = []
    for name, encoder in model.encoders.items():
        trunk = getattr(encoder, "trunk", None)
        node = config["encoders"].get(name, {})
        if not isinstance(trunk, Transformer) or trunk.layer_drop or node.get("depth") != len(trunk.blocks):
            continue
        size = lcm(trunk.global_every if trunk.window else 1, trunk.checkpoint_every or 1)
        least = _LEAST + (len(trunk.blocks) - _LEAST) % size
        further = (len(trunk.blocks) - least) // size
        if further > 1:
            found.append(Deep(name, least, size, further))
    whole = sum(one.least + one.round * one.further for one in found)
    rehearsed = sum(one.least * (1 + len(found)) + one.round for one in found)
    return found if 2 * rehearsed <= whole else []


def rehearse_deep(config: Config, deep: Sequence[Deep], rehearse: Callable[[Config], Rehearsal]) -> Rehearsal:
    """What ``rehearse(config)`` would come to, found with shallow trunks.

    Args:
        config: of the run, resolved.
        deep: trunks to make shallow; none: it is called as it is.
        rehearse: carries out a step.
    """
    shallow = {one.encoder: one.least for one in deep}
    base = rehearse(_with_depths(config, shallow))
    found = base
    for one in deep:
        deeper = rehearse(_with_depths(config, shallow | {one.encoder: one.least + one.round}))
        found = _extended(found, base, deeper, one.further)
    return replace(found, most=max(found.heights))


def _with_depths(config: Config, depths: Mapping[str, int]) -> Config:
    encoders = {
        name: {**node, "depth": depths[name]} if name in depths else node for name, node in config["encoders"].items()
    }
    return {**config, "encoders": encoders}


def _extended(found: Rehearsal, base: Rehearsal, deeper: Rehearsal, times: int) -> Rehearsal:
    """``found`` with ``times`` what ``deeper`` has more than ``base``."""

    def numbers(name: str) -> Any:
        return getattr(found, name) + times * (getattr(deeper, name) - getattr(base, name))

    def tables(name: str) -> dict[str, Any]:
        before, after = getattr(base, name), getattr(deeper, name)
        return {key: value + times * (after[key] - before[key]) for key, value in getattr(found, name).items()}

    whole = ("weights", "gradients", "optimizer", "averages", "checkpoint")
    changed: dict[str, Any] = {name: numbers(name) for name in whole}
    changed |= {name: tables(name) for name in ("flops", "parameters", "inference")}
    added = Counter(deeper.apart) - Counter(base.apart)
    changed["apart"] = [*found.apart, *(times * list(added.elements()))]
    steps = zip(found.heights, base.heights, deeper.heights, strict=True)
    changed["heights"] = [height + times * (after - before) for height, before, after in steps]
    return replace(found, **changed)
