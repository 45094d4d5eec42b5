"""Sums whose rounding does not depend on who adds up which part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Place = tuple[int, int]


@dataclass
class Tree(Generic[T]):
    """A sum over the leaves 0, 1, 2, ..., given from left to right, in an order that their numbers alone decide.

    Leaves 2k and 2k + 1 are added first, then the sums of neighbouring pairs, and so on; at the end what is left over,
    from the left.

    Attributes:
        add: of two values; may change the first.
        nodes: (level, number within the level) and value of each largest subtree that is complete, from the left.
    """

    add: Callable[[T, T], T]
    nodes: list[tuple[Place, T]] = field(default_factory=list)

    def push(self, place: Place, value: T) -> None:
        """Adds the subtree at ``place``; a leaf is ``(0, number)``. It lies right of all that were added before."""
        self.nodes.append((place, value))
        while len(self.nodes) > 1:
            ((level, number), left), (right_place, right) = self.nodes[-2:]
            if number % 2 or right_place != (level, number + 1):
                return
            self.nodes[-2:] = [((level + 1, number // 2), self.add(left, right))]

    def total(self) -> T:
        """The sum of all."""
        (_, total), *others = self.nodes
        for _, value in others:
            total = self.add(total, value)
        return total


def subtrees(begin: int, count: int) -> list[Place]:
    """The places of the largest complete subtrees over the leaves ``begin`` to ``begin + count``."""
    tree: Tree[None] = Tree(lambda left, right: None)
    for number in range(begin, begin + count):
        tree.push((0, number), None)
    return [place for place, _ in tree.nodes]
