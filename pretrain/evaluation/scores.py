"""What an evaluator gives: every metric with the value that guessing would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from pretrain.model import Model

Scores: TypeAlias = dict[str, dict[str, Any]]
"""Metric -> ``{"value", "chance"}``; without ``chance`` where guessing has none, with what it is made of if it says."""
Evaluator: TypeAlias = Callable[[Model], Scores]
