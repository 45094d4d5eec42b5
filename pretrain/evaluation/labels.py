"""Samples as encoders take them, with their classes as they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.label import Label
from data.sample import Sample
from modalities.prepare import Batch, Item, Prepare, joined_needs
from modalities.view import View


class Labelled:
    """Prepares the sides of a sample as encoders take them, and its class with them.

    Args:
        sides: name -> what prepares it.
        label: where the class is; None: it has none.
        views: also what a person can look at of each side, ``{}`` of one whose prepare cannot say.
    """

    def __init__(self, sides: Mapping[str, Prepare], label: Label | None, views: bool = False) -> None:
        self.sides, self.label, self.views = dict(sides), label, views

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Those of all sides, and the class."""
        return joined_needs(self.sides) | ({"class": (self.label.member,)} if self.label else {})

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"sides": {name: item}, "label": class or "", "note": {"key": ..., "view": {name: view}}}``."""
        label = self.label(sample) if self.label else ""
        sides = {name: side(sample, rng, training) for name, side in self.sides.items()}
        note: dict[str, Any] = {"key": sample.key}
        if self.views:
            note["view"] = {name: self._view(name, item) for name, item in sides.items()}
        return {"sides": sides, "label": label, "note": note}

    def _view(self, name: str, item: Item) -> View:
        look: Callable[[Item], View] | None = getattr(self.sides[name], "view", None)
        return look(item) if look is not None else {}

    def collate(self, items: list[Item]) -> Batch:
        """``{"sides": {name: batch}, "labels": B classes, "notes": B notes, "size": B}``."""
        sides = {name: side.collate([item["sides"][name] for item in items]) for name, side in self.sides.items()}
        labels, notes = [item["label"] for item in items], [item["note"] for item in items]
        return {"sides": sides, "labels": labels, "notes": notes, "size": len(items)}
