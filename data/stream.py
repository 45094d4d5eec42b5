"""The endless stream of one task: position -> sample, over one source or a mixture of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data.errors import InputError
from data.mixture import Mixture
from data.order import Order
from data.sample import Sample
from data.seeds import derive, generator
from data.source import Source

SourceSpec = str | list[str] | Mapping[str, object]
_KEYS = {"pattern", "weight"}


class Place(NamedTuple):
    """What stands at a position: sample ``number`` of source ``source``, in that source's epoch ``epoch``."""

    source: int
    epoch: int
    number: int


def open_sources(task: str, spec: SourceSpec) -> tuple[list[Source], list[float]]:
    """Sources and their weights from a config value.

    ``spec`` is a pattern, a list of patterns (one source), or a mapping of source names to a pattern or to
    ``{pattern: ..., weight: ...}``.

    Raises:
        InputError: a source matches nothing, is empty, or has an unknown key.
    """
    if not isinstance(spec, Mapping):
        return [Source(task, _pattern(task, spec))], [1.0]
    if not spec:
        raise InputError(f"task '{task}': source is an empty mapping; give at least one pattern")
    sources, weights = [], []
    for name, entry in sorted(spec.items()):  # the order of a mapping's keys is not the order of data
        fields = dict(entry) if isinstance(entry, Mapping) else {"pattern": entry}
        unknown = sorted(set(fields) - _KEYS)
        if unknown or "pattern" not in fields:
            raise InputError(f"task '{task}': source '{name}' takes pattern and weight, got {sorted(fields)}")
        weight = fields.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InputError(f"task '{task}': source '{name}' has the weight {weight!r}, which is no number")
        sources.append(Source(f"{task}.{name}", _pattern(f"{task}.{name}", fields["pattern"])))
        weights.append(float(weight))
    return sources, weights


def _pattern(name: str, value: object) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    raise InputError(f"source '{name}' is {value!r}; give a pattern, a list of patterns, or names with a pattern each")


class Stream:
    """What a task trains on, addressed by position.

    Args:
        task: name of the task; part of every seed, so that two tasks over one source differ.
        spec: see :func:`open_sources`.
        seed: of the run.
        shuffle: False for held-out data: the samples as they lie in the shards.
    """

    def __init__(self, task: str, spec: SourceSpec, seed: int, shuffle: bool = True) -> None:
        self.task = task
        self.seed = seed
        self.sources, weights = open_sources(task, spec)
        self.mixture = Mixture(weights, derive(seed, task, "mixture"))
        self.orders = [Order(len(s), derive(seed, s.name, "order"), shuffle) for s in self.sources]

    def __len__(self) -> int:
        """Samples of all sources together, the size of one pass over everything."""
        return sum(map(len, self.sources))

    def locate(self, positions: np.ndarray) -> list[Place]:
        """What stands at each of ``positions`` (int64)."""
        sources, inner = self.mixture(positions)
        epochs, numbers = np.empty_like(inner), np.empty_like(inner)
        for source in np.unique(sources):
            here = sources == source
            epochs[here], numbers[here] = self.orders[source](inner[here])
        return [Place(*row) for row in zip(sources.tolist(), epochs.tolist(), numbers.tolist(), strict=True)]

    def replacement(self, place: Place, position: int, attempt: int) -> Place:
        """What takes the place of an unusable sample: another one of its source, a pure function of the position."""
        others = max(1, len(self.sources[place.source]) - 1)
        ahead = 1 + derive(self.seed, self.task, "replacement", position, attempt) % others
        return place._replace(number=(place.number + ahead) % len(self.sources[place.source]))

    def read(self, place: Place) -> Sample:
        """The sample at ``place``."""
        return self.sources[place.source].read(place.number)

    def identity(self, place: Place) -> tuple[str, str]:
        """(shard base name, key) of the sample at ``place``, without reading it."""
        return self.sources[place.source].identity(place.number)

    def randomness(self, position: int) -> np.random.Generator:
        """The generator of the sample at ``position``: its crop, its augmentation, its masks."""
        return generator(self.seed, self.task, position)

    def fingerprint(self) -> dict[str, str]:
        """Source name -> digest of its shard list."""
        return {source.name: source.fingerprint() for source in self.sources}
