"""The prepare protocol: sample -> tensors, in the loader's workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from data.sample import Sample

Item: TypeAlias = dict[str, Any]
Batch: TypeAlias = dict[str, Any]


class Prepare(Protocol):
    """Makes one side of a sample ready for an encoder.

    Attributes:
        modality: what it produces; must be the modality of the encoder that takes it.
        needs: extension groups of which a sample must have one each, ``{"image": ("jpg", "png")}``; checked against
            the shard index before the first step.

    Where it adds what only an objective needs (masks, labels), an attribute ``plain`` names the class that makes an
    encoder's inputs alone; it takes arguments of the same names. Embedding and evaluating prepare samples by that.
    Where a part of the work costs less for some samples one after the other than for each in its turn, a method
    ``foresee(sample)`` does that part and leaves it in ``sample.ready[self]``. It may be called or not, and raises
    nothing on account of a sample: that is for the call that makes it.
    Where a person can look at or listen to what it makes, a method ``view(item)`` gives that (:mod:`modalities.view`).
    """

    modality: ClassVar[str]

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """What a sample must have."""

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """Tensors of one sample; all randomness comes from ``rng``, which is the sample's own until the call returns.

        ``training`` is False for held-out data: augmentation is off, masking stays on.

        Raises:
            SampleError: the sample cannot be used.
        """

    def collate(self, items: list[Item]) -> Batch:
        """One batch of B items, sequences laid end to end."""


class Sides:
    """Prepares a sample once for each side of an objective: ``{"a": ..., "b": ...}`` items and batches."""

    def __init__(self, **sides: Prepare) -> None:
        self.sides = sides
        self._ahead = [side.foresee for side in sides.values() if hasattr(side, "foresee")]

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The needs of all sides."""
        return joined_needs(self.sides)

    def foresee(self, sample: Sample) -> None:
        """What each side does ahead."""
        for ahead in self._ahead:
            ahead(sample)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """One item a side."""
        return {name: side(sample, rng, training) for name, side in self.sides.items()}

    def collate(self, items: list[Item]) -> Batch:
        """One batch a side, and ``size``, the number of samples."""
        return {"size": len(items)} | {
            name: side.collate([item[name] for item in items]) for name, side in self.sides.items()
        }


def joined_needs(sides: Mapping[str, Prepare]) -> dict[str, tuple[str, ...]]:
    """The needs of all ``sides``; two that mean different members by one name (texts, say) have them by their own."""
    found: dict[str, tuple[str, ...]] = {}
    for name, side in sides.items():
        for what, extensions in side.needs.items():
            found[what if found.get(what, extensions) == extensions else f"{name}.{what}"] = extensions
    return found


def lengths_of(items: Iterable[Item], name: str) -> list[int]:
    """Length of ``item[name]`` for each item."""
    return [len(item[name]) for item in items]
