"""What a demo scene holds and how it is said in English; picture and sound render the same scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.seeds import generator

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
# A large thing fills a quarter of the picture: more than two of them do not fit beside a second thing.
MOST = {"small": 4, "large": 2}
POSITIONS = ("left", "right", "top", "bottom", "centre")
# Relation -> where the main thing lies, where the second one lies.
RELATIONS = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
# In the diagonals s + c = 0, 6, 12 every shape and every colour keeps at least six of its eight partners for training.
HELD_OUT = frozenset((s, c) for i, s in enumerate(SHAPES) for j, c in enumerate(COLOURS) if (i + j) % 6 == 0)

_SEED = 20240
_NUMERALS = ("one", "two", "three", "four")
_WHERE = {
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "in the upper half"),
    "bottom": ("at the bottom", "in the lower half"),
    "centre": ("in the centre", "in the middle"),
}
_BESIDE = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


@dataclass(frozen=True)
class Thing:
    """``count`` equal shapes of one colour and size."""

    shape: str
    colour: str
    size: str
    count: int

    @property
    def held_out(self) -> bool:
        """Whether its pair of shape and colour is kept out of training."""
        return (self.shape, self.colour) in HELD_OUT

    def phrase(self) -> str:
        """Such as "a large orange ring" or "three small red stars"."""
        if self.count == 1:
            return f"a {self.size} {self.colour} {self.shape}"
        plural = "crosses" if self.shape == "cross" else f"{self.shape}s"
        return f"{_NUMERALS[self.count - 1]} {self.size} {self.colour} {plural}"


@dataclass(frozen=True)
class Scene:
    """A main thing, and either a place for it or a second thing that it stands in relation to.

    Attributes:
        split: "train" or "val".
        number: of the scene in its split; names the generators of all that renders it.
        main: what the caption names first and the sound plays first.
        position: one of POSITIONS, None where there is a second thing.
        relation: one of RELATIONS, of the main thing to the second one; None where there is none.
        second: a single shape of another (shape, colour) than the main thing, or None.
    """

    split: str
    number: int
    main: Thing
    position: str | None
    relation: str | None
    second: Thing | None

    def placed(self) -> tuple[tuple[Thing, str], ...]:
        """Each thing with the region (one of POSITIONS) that it lies in, the main one first."""
        if self.relation is None or self.second is None:
            return ((self.main, self.position or "centre"),)
        here, there = RELATIONS[self.relation]
        return (self.main, here), (self.second, there)

    def randomness(self, purpose: str) -> np.random.Generator:
        """The scene's own generator for ``purpose``: its caption, its picture, its sound."""
        return generator("demo scene", _SEED, self.split, self.number, purpose)

    def caption(self) -> str:
        """One English sentence that states all of the scene."""
        rng = self.randomness("caption")
        thing = self.main.phrase()
        if self.relation is not None and self.second is not None:
            place = f"{_pick(rng, _BESIDE[self.relation])} {self.second.phrase()}"
            fronted = False
        else:
            place = _pick(rng, _WHERE[self.position or "centre"])
            fronted = True
        be = "is" if self.main.count == 1 else "are"
        forms = [
            f"{thing} {place}",
            f"there {be} {thing} {place}",
            f"{thing} {be} {place}",
            f"a picture of {thing} {place}",
        ]
        if fronted:
            forms.append(f"{place} there {be} {thing}")
        return _pick(rng, forms)

    def attributes(self) -> dict[str, Any]:
        """The scene as JSON holds it: the main thing's shape, colour, size and count, then what else there is."""
        return {
            **asdict(self.main),
            "position": self.position,
            "relation": self.relation,
            "second": asdict(self.second) if self.second else None,
            "split": self.split,
            "number": self.number,
        }


def scene(number: int, split: str) -> Scene:
    """The scene ``number`` of ``split``: with a held-out pair in "val", without any in "train"."""
    rng = generator("demo scene", _SEED, split, number, "scene")
    while True:
        drawn = _draw(rng, number, split)
        if any(thing.held_out for thing, _ in drawn.placed()) == (split == "val"):
            return drawn


def distinct(split: str, count: int) -> Iterator[Scene]:
    """The first ``count`` scenes of ``split`` that no earlier one equals; "A left of B" equals "B right of A"."""
    seen: set[frozenset[tuple[Thing, str]]] = set()
    number = 0
    while len(seen) < count:
        candidate = scene(number, split)
        number += 1
        meaning = frozenset(candidate.placed())
        if meaning not in seen:
            seen.add(meaning)
            yield candidate


def _draw(rng: np.random.Generator, number: int, split: str) -> Scene:
    main = _thing(rng)
    if rng.random() < 0.5:
        return Scene(split, number, main, _pick(rng, POSITIONS), None, None)
    second = _thing(rng, most=1)
    while (second.shape, second.colour) == (main.shape, main.colour):
        second = _thing(rng, most=1)
    return Scene(split, number, main, None, _pick(rng, tuple(RELATIONS)), second)


def _thing(rng: np.random.Generator, most: int = 4) -> Thing:
    size = _pick(rng, tuple(MOST))
    count = int(rng.integers(1, min(most, MOST[size]) + 1))
    return Thing(_pick(rng, SHAPES), _pick(rng, COLOURS), size, count)


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]
