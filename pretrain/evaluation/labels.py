"""The class of a sample: a member of it, or a field of its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.prepare import Batch, Item, Prepare, text_of
from modalities.view import View


class Label:
    """Where the class of a sample is.

    Args:
        place: ``cls``: a member whose whole text is the class (what ``pretrain shards pack --label`` writes), or
            ``json.a.b``: a field of a JSON member; text, a number or true and false.

    Raises:
        InputError: a field of something that is no JSON.
    """

    def __init__(self, place: str) -> None:
        self.member, _, field = place.partition(".")
        self.path = field.split(".") if field else []
        if not self.member or (self.path and self.member != "json"):
            raise InputError(f"label '{place}' is neither a member (cls) nor a field of one that is JSON (json.label)")

    def __call__(self, sample: Sample) -> str:
        """The class.

        Raises:
            SampleError: it has none.
        """
        text = text_of(sample.contents([self.member])[0], f"member {self.member}", self.member)
        if not self.path:
            return text
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"member json is no JSON: {str(error)[:80]}", "undecodable", "json") from None
        for part in self.path:
            if not isinstance(value, dict) or part not in value:
                raise SampleError(f"member json has no field {'.'.join(self.path)}", "missing", "json")
            value = value[part]
        if not isinstance(value, str | int | float):
            raise SampleError(f"field {'.'.join(self.path)} is {type(value).__name__}, no class", "undecodable", "json")
        return str(value)


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
        found = {what: wanted for side in self.sides.values() for what, wanted in side.needs.items()}
        return found | ({"class": (self.label.member,)} if self.label else {})

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"sides": {name: item}, "label": class or "", "view": {name: view}}``."""
        label = self.label(sample) if self.label else ""
        items = {name: side(sample, rng, training) for name, side in self.sides.items()}
        view = {name: self._view(name, item) for name, item in items.items()} if self.views else {}
        return {"sides": items, "label": label, "view": view}

    def _view(self, name: str, item: Item) -> View:
        look: Callable[[Item], View] | None = getattr(self.sides[name], "view", None)
        return look(item) if look is not None else {}

    def collate(self, items: list[Item]) -> Batch:
        """``{"sides": {name: batch}, "labels": B classes, "views": B of all sides, "size": B}``."""
        sides = {name: side.collate([item["sides"][name] for item in items]) for name, side in self.sides.items()}
        labels, views = [item["label"] for item in items], [item["view"] for item in items]
        return {"sides": sides, "labels": labels, "views": views, "size": len(items)}
