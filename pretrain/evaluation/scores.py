"""What an evaluator gives: every metric with the value that guessing would give, and tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypedDict

from pretrain.model import Model

Scores: TypeAlias = dict[str, dict[str, Any]]
"""Metric -> ``{"value", "chance"}``; without ``chance`` where guessing has none, with what it is made of if it says."""
Evaluator: TypeAlias = Callable[[Model], Scores]


class Table(TypedDict):
    """Something to read, as JSON has it.

    Attributes:
        kind: ``behaviour``, ``failures`` or ``groups``: what it is about, for those who show some of them.
        title: a line above it.
        columns: titles; one that ends in ``>`` is of numbers.
        rows: a cell for each column; text, a number, or None.
    """

    kind: str
    title: str
    columns: list[str]
    rows: list[list[Any]]


def tables_of(evaluators: Iterable[Any]) -> dict[str, list[Table]]:
    """Evaluator -> what it said beyond numbers when it measured last; those that say nothing are left out."""
    return {one.name: one.tables for one in evaluators if getattr(one, "tables", None)}
