"""Micro-batches to plan with: real samples, as the run will draw them, as many as it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from data.errors import InputError, SampleError
from data.seeds import Randomness
from data.stream import Stream
from modalities.prepare import Batch, Item, Prepare, Sides

DRAWN = 256
"""Samples whose sizes stand for those of all."""
_TRIED = 2 * DRAWN
_PICTURE = 3
"""Dimensions of a prepared picture."""


@dataclass(frozen=True)
class Drawn:
    """Prepared samples of a task, to be repeated in batches of any size.

    Attributes:
        prepare: of the task.
        items: what it made of some samples.
        unusable: how many others could not be used, and why the first could not.
    """

    prepare: Prepare
    items: list[Item]
    unusable: tuple[int, str]

    def batch(self, size: int, begin: int = 0) -> Batch:
        """A micro-batch of ``size`` samples.

        Args:
            size: how many.
            begin: number of the first among those drawn; from any multiple of ``size`` on they are of medium size.
        """
        return self.prepare.collate([self.items[(begin + n) % len(self.items)] for n in range(size)])

    @property
    def ragged(self) -> bool:
        """Whether samples differ in size."""
        return len(set(map(_extent, self.items))) > 1

    def fewer(self, count: int) -> Drawn:
        """``count`` of them whose sizes are spread as those of all: attention's cost goes with the square."""
        if count >= len(self.items):
            return self
        rising = sorted(self.items, key=_extent)
        return replace(self, items=_mixed([rising[(2 * n + 1) * len(rising) // (2 * count)] for n in range(count)]))

    def for_batches_of(self, size: int, largest: bool) -> Drawn:
        """Those to fill micro-batches of ``size`` samples with: medium ones, or the ``largest`` that there are."""
        if not largest:
            return self
        return replace(self, items=_mixed(sorted(self.items, key=_extent, reverse=True)[:size]))

    def without_contents(self, fake: FakeTensorMode) -> Drawn:
        """The same with fake pictures: 30,000 real ones are some gigabytes, and their contents decide nothing."""
        return replace(self, items=[_without_pictures(item, fake) for item in self.items])


def draw(stream: Stream, prepare: Prepare, count: int = DRAWN) -> Drawn:
    """Prepares the first ``count`` samples of ``stream``.

    Raises:
        InputError: none of many can be used.
    """
    randomness, items, unusable, why = Randomness(stream.seed, stream.task), [], 0, ""
    for position, place in enumerate(stream.locate(np.arange(_TRIED))):
        try:
            items.append(prepare(stream.read(place), randomness(position), True))
        except SampleError as error:
            unusable, why = unusable + 1, why or str(error)
        if len(items) == count:
            break
    if not items:
        raise InputError(f"task '{stream.task}': none of {unusable} samples can be used; the first: {why}")
    return Drawn(prepare, _mixed(items), (unusable, why))


def _extent(item: Any) -> int:
    """Numbers in a prepared sample."""
    if isinstance(item, Mapping):
        return sum(map(_extent, item.values()))
    return item.size if isinstance(item, np.ndarray) else item.numel() if isinstance(item, Tensor) else 0


def _without_pictures(item: Any, fake: FakeTensorMode) -> Any:
    if isinstance(item, Mapping):
        return {name: _without_pictures(part, fake) for name, part in item.items()}
    return fake.from_tensor(item) if isinstance(item, Tensor) and item.ndim == _PICTURE else item


def _mixed(items: list[Item]) -> list[Item]:
    """In an order in which a few that follow one another are together as large as any other few."""
    rest = sorted(items, key=_extent)
    mean, lead = sum(map(_extent, rest)) / len(rest), 0.0
    found: list[Item] = []
    while rest:  # the one that brings the sum of those chosen next to what it would be of mean ones
        extents = [abs(lead + _extent(item) - mean) for item in rest]
        found.append(rest.pop(extents.index(min(extents))))
        lead += _extent(found[-1]) - mean
    return found


def units(batch: Mapping[str, Any], rates: Mapping[str, int]) -> dict[str, float]:
    """What a batch holds, in the units in which people count data: tokens, images, seconds of audio.

    Args:
        batch: of one side, or of several, whose counts are added.
        rates: side -> samples of sound a second; "" for a batch of one side.
    """
    found: dict[str, float] = {}
    if "tokens" in batch:
        found["tokens"] = float(batch["tokens"].numel())
    elif "pixels" in batch:
        found["images"] = float(len(batch["pixels"]))
    elif "wave" in batch:
        found["audio_s"] = sum(batch["samples"]) / rates.get("", 16_000)
    for side, part in batch.items():
        if isinstance(part, Mapping):
            for name, value in units(part, {"": rates.get(side, rates.get("", 16_000))}).items():
                found[name] = found.get(name, 0.0) + value
    return found


def rates(prepare: Prepare) -> dict[str, int]:
    """Side -> samples of sound a second, for :func:`units`."""
    sides = prepare.sides if isinstance(prepare, Sides) else {"": prepare}
    return {name: side.sample_rate for name, side in sides.items() if hasattr(side, "sample_rate")}
