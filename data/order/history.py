"""What a task's stream was made of, from which position on: so that a change of data is made on purpose, and once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data.order.mixture import Mixture
from data.seeds import derive


@dataclass(frozen=True)
class Part:
    """A source in a segment.

    Attributes:
        weight: in the mixture; 0 if it is not drawn from.
        digest: of its shard list.
        begin: position of the source's own stream at which the segment begins.
        generation: how often its order began anew, because its shards or the way of shuffling changed.
        seen: samples drawn from it before the segment, in all generations.
    """

    weight: float
    digest: str
    begin: int = 0
    generation: int = 0
    seen: int = 0


@dataclass(frozen=True)
class Segment:
    """A stretch of the stream with the same sources and weights.

    Attributes:
        position: of the stream, where it begins.
        order: what the order depends on beside the sources: seed, window and streams.
        parts: name of the source -> its part, sorted by name.
    """

    position: int
    order: tuple[int, int, int]
    parts: dict[str, Part]

    @property
    def drawn(self) -> list[str]:
        """Names of the sources that are drawn from, in the mixture's order."""
        return [name for name, part in self.parts.items() if part.weight > 0]

    def mixture(self, task: str) -> Mixture:
        """Deals the positions from ``position`` on."""
        place = (self.position,) if self.position else ()
        return Mixture([self.parts[n].weight for n in self.drawn], derive(self.order[0], task, "mixture", *place))

    def as_json(self) -> dict[str, Any]:
        """Plain values; the inverse of :func:`segment_of`."""
        return asdict(self)


def segment_of(record: Mapping[str, Any]) -> Segment:
    """A segment from its JSON."""
    parts = {name: Part(**part) for name, part in sorted(record["parts"].items())}
    return Segment(record["position"], tuple(record["order"]), parts)


def same(one: Segment, other: Segment) -> bool:
    """Whether both draw the same samples, if they began at the same place."""
    if one.order != other.order or one.drawn != other.drawn:
        return False
    pairs = [(one.parts[name], other.parts[name]) for name in one.drawn]
    whole = [sum(segment.parts[n].weight for n in one.drawn) for segment in (one, other)]
    return all(a.digest == b.digest and a.weight * whole[1] == b.weight * whole[0] for a, b in pairs)


def go_on(task: str, past: Segment, now: Segment, position: int) -> tuple[Segment, list[str]]:
    """The segment that begins at ``position`` with the sources of ``now``, and what changes, in words.

    A source that was there goes on where it stands, so that nothing of its epoch is repeated or left out; with other
    shards or another way of shuffling it begins a new epoch, also if it was not drawn from when that changed.
    """
    counts = dict(zip(past.drawn, past.mixture(task).counts(position - past.position), strict=True))
    parts, lines = {}, []
    for name in sorted(past.parts.keys() | now.parts.keys()):
        old, new = past.parts.get(name), now.parts.get(name)
        drawn = counts.get(name, 0)
        if old is None:
            assert new is not None
            parts[name] = new
            lines.append(f"source '{name}' is new, with weight {new.weight:g}")
            continue
        seen = old.seen + drawn
        if new is None:
            # What it comes back to is the order of then: the place where it stands is one of the order of now.
            anew = past.order != now.order
            begin = 0 if anew else old.begin + drawn
            parts[name] = Part(0.0, old.digest, begin, old.generation + anew, seen)
            if old.weight:
                lines.append(f"source '{name}' is drawn from no more, after {seen} samples")
        elif old.digest == new.digest and past.order == now.order:
            parts[name] = Part(new.weight, old.digest, old.begin + drawn, old.generation, seen)
            if old.weight != new.weight:
                how = "begins a new epoch" if seen and not old.begin + drawn else "goes on"
                lines.append(
                    f"source '{name}' {how} after {seen} samples, weight {new.weight:g} instead of {old.weight:g}"
                )
        else:
            parts[name] = Part(new.weight, new.digest, 0, old.generation + 1, seen)
            what = "shards" if old.digest != new.digest else "order settings"
            lines.append(f"source '{name}' has other {what}: it begins a new epoch after {seen} samples")
    return Segment(position, now.order, parts), lines
