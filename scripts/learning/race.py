"""Two sides that learn from the same samples in the same order, in turns, each with the same CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from step_bench.measure import Parts
from step_bench.side import Side

Curve = dict[str, list[float]]


@dataclass
class Racer:
    """One side.

    Attributes:
        side: what learns.
        held_out: its loss on what it does not learn from; the same masks and samples for both sides.
        curve: what was measured: steps, samples, CPU and wall seconds of learning alone, held-out loss.
    """

    side: Side
    held_out: Callable[[], float]
    curve: Curve = field(default_factory=lambda: {name: [] for name in ("steps", "samples", "cpu_s", "wall_s", "loss")})
    cpu: float = 0.0
    wall: float = 0.0

    def measure(self, batch: int) -> None:
        now = {"steps": self.side.number, "samples": self.side.number * batch, "cpu_s": round(self.cpu, 3)}
        for name, value in (now | {"wall_s": round(self.wall, 3), "loss": round(self.held_out(), 5)}).items():
            self.curve[name].append(value)

    def learn(self, rate: float) -> None:
        for group in self.side.optimizer.param_groups:  # type: ignore[attr-defined]
            group["lr"] = rate
        samples = self.side.batches(self.side.number)  # made for either side alike, so not timed
        wall, cpu = time.perf_counter(), time.process_time()
        self.side.learn(samples, Parts())
        self.wall, self.cpu = self.wall + time.perf_counter() - wall, self.cpu + time.process_time() - cpu
        self.side.number += 1


@dataclass
class Contest:
    """What is learned, by whom.

    Attributes:
        name, data, peer, size: what the document says.
        ours, theirs: the sides, with the same weights.
        batch: samples a step.
        rate, warmup: of either side: a linear rise over ``warmup`` steps, then constant.
    """

    name: str
    data: str
    peer: str
    size: str
    ours: Racer
    theirs: Racer
    batch: int
    rate: float
    warmup: int = 30


def check(contest: Contest) -> None:
    """Measures both sides.

    Raises:
        SystemExit: the held-out losses differ before the first step: then the sides do not learn the same thing.
    """
    racers = (contest.ours, contest.theirs)
    for racer in racers:
        racer.measure(contest.batch)
    ours, theirs = (racer.curve["loss"][0] for racer in racers)
    if abs(ours - theirs) > 1e-3 * abs(theirs):
        raise SystemExit(f"{contest.name}: held-out loss of the same weights is {ours} and {theirs}")


def run(contest: Contest, seconds: float, say: Callable[[str], Any]) -> None:
    """Lets the side that has used less CPU time take the next step until both have used ``seconds``.

    Raises:
        SystemExit: the held-out losses differ before the first step: then the sides do not learn the same thing.
    """
    check(contest)
    racers = (contest.ours, contest.theirs)
    while min(racer.cpu for racer in racers) < seconds:
        racer = min(racers, key=lambda racer: racer.cpu)
        racer.learn(contest.rate * min(1.0, (racer.side.number + 1) / contest.warmup))
        if is_measured(racer.side.number):
            racer.measure(contest.batch)
            say(f"{contest.name} {racer.side.name} " + " ".join(f"{k}={v[-1]:g}" for k, v in racer.curve.items()))
    for racer in racers:
        if racer.curve["steps"][-1] != racer.side.number:
            racer.measure(contest.batch)


def is_measured(step: int) -> bool:
    """Each 5 steps at first, then each tenth part more."""
    gap = 5
    while step >= 20 * gap:
        gap *= 2
    return step % gap == 0


def at(curve: Curve, along: str, place: float) -> float:
    """The held-out loss up to ``place`` of ``along``: the mean of the curve's line over the last fifth of the way.

    One measurement says little where the loss jumps from one to the next, as it does while codes come and go.
    """
    places = np.linspace(0.8 * place, place, 201)
    return float(np.interp(places, curve[along], curve["loss"]).mean())


def result(contest: Contest) -> dict[str, Any]:
    """Curves, and the losses at equal samples and equal time: both up to where the first stops."""
    ours, theirs = contest.ours.curve, contest.theirs.curve
    return {
        "name": contest.name,
        "data": contest.data,
        "peer": contest.peer,
        "size": contest.size,
        "batch": contest.batch,
        "rate": contest.rate,
        "warmup": contest.warmup,
        "ours": ours,
        "theirs": theirs,
        "equal_samples": pair(ours, theirs, "samples"),
        "equal_cpu_s": pair(ours, theirs, "cpu_s"),
        "equal_wall_s": pair(ours, theirs, "wall_s"),
    }


def _only(samples: set[float], curve: Curve) -> Curve:
    """What was measured after one of ``samples``."""
    kept = [number in samples for number in curve["samples"]]
    return {name: list(compress(curve[name], kept)) for name in ("samples", "loss")}


def pair(ours: Curve, theirs: Curve, along: str) -> dict[str, float]:
    """Where both curves have a value, as far along as possible; of samples only where both were measured."""
    if along == "samples":
        shared = set(ours[along]) & set(theirs[along])
        ours, theirs = (_only(shared, curve) for curve in (ours, theirs))
    place = min(ours[along][-1], theirs[along][-1])
    return {"at": place, "ours": round(at(ours, along, place), 4), "theirs": round(at(theirs, along, place), 4)}
