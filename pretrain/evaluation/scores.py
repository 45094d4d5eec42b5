"""What an evaluator gives: every metric with the value that guessing would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pretrain.model import Model

Scores: TypeAlias = dict[str, dict[str, float]]
"""Metric -> ``{"value", "chance"}``; without ``chance`` where guessing has none."""
Evaluator: TypeAlias = Callable[[Model], Scores]
