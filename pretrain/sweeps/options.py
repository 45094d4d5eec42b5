"""The keys of ``sweeper``, for each kind of it; see ``conf/sweeper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from data.errors import InputError, choices
from pretrain.schema import at_least, one_of

GRID, OPTUNA = "grid", "optuna"


@dataclass
class GridConfig:
    """Every combination."""

    kind: str = MISSING


@dataclass
class OptunaConfig:
    """Values that are likely to be better than those of the trials so far."""

    kind: str = MISSING
    trials: int = at_least(1)
    metric: str = MISSING
    mode: str = one_of("min", "max")
    prune: bool = MISSING
    prune_after_trials: int = at_least(1)
    prune_after_step: int = at_least(0)


_KINDS = {GRID: GridConfig, OPTUNA: OptunaConfig}


def kind_of(node: Any) -> type:
    """The class with the keys of the ``sweeper`` node.

    Raises:
        InputError: it is of no known kind.
    """
    kind = node.get("kind") if isinstance(node, dict) else node
    if kind not in _KINDS:
        raise InputError(f"sweeper.kind '{kind}' is not there; {choices(str(kind), _KINDS)}")
    return _KINDS[kind]
