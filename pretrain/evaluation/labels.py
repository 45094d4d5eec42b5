"""Samples as encoders take them, with their classes as they are written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.label import Label
from data.sample import Sample
from modalities.prepare import Batch, Item, Prepare


class Labelled:
    """Prepares the sides of a sample as encoders take them, and its class with them.

    Args:
        sides: name -> what prepares it.
        label: where the class is; None: it has none.
    """

    def __init__(self, sides: Mapping[str, Prepare], label: Label | None) -> None:
        self.sides, self.label = dict(sides), label

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Those of all sides, and the class."""
        found = {what: wanted for side in self.sides.values() for what, wanted in side.needs.items()}
        return found | ({"class": (self.label.member,)} if self.label else {})

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"sides": {name: item}, "label": class or "", "note": {"key": ...}}``."""
        label = self.label(sample) if self.label else ""
        sides = {name: side(sample, rng, training) for name, side in self.sides.items()}
        return {"sides": sides, "label": label, "note": {"key": sample.key}}

    def collate(self, items: list[Item]) -> Batch:
        """``{"sides": {name: batch}, "labels": B classes, "notes": B notes, "size": B}``."""
        sides = {name: side.collate([item["sides"][name] for item in items]) for name, side in self.sides.items()}
        labels, notes = [item["label"] for item in items], [item["note"] for item in items]
        return {"sides": sides, "labels": labels, "notes": notes, "size": len(items)}
