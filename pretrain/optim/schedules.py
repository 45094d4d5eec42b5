"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """Linear warm-up, then 1."""

    max_steps: int
    warmup_steps: int = 0

    def __call__(self, step: int) -> float:
        """The factor of the learning rate in step ``step`` (from 0)."""
        return min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine from 1 to ``min_factor`` (Loshchilov & Hutter 2017, eq. 5)."""

    max_steps: int
    warmup_steps: int = 0
    min_factor: float = 0.0

    def __call__(self, step: int) -> float:
        """The factor of the learning rate in step ``step`` (from 0)."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps)
        return self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
