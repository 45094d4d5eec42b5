"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from data.errors import InputError

SHAPES = ("linear", "sqrt")


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or value < 0:
        raise InputError(f"{name}={value!r} is no whole number of 0 or more")


def _check_factor(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{name}={value!r} is no number of 0 or more")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to 1, then what a subclass says.

    Attributes:
        max_steps: of the run.
        warmup_steps: the full learning rate is reached in this step; 0 for no warm-up.
        warmup_samples: the same in samples of all tasks together, rounded up to steps; None: ``warmup_steps`` counts.
        samples_a_step: of all tasks together, what ``warmup_samples`` is divided by.
    """

    max_steps: int
    warmup_steps: int = 0
    warmup_samples: int | None = field(default=None, kw_only=True)
    samples_a_step: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        _check_whole("warmup_steps", self.warmup_steps)
        if self.warmup_samples is not None:
            _check_whole("warmup_samples", self.warmup_samples)
            object.__setattr__(self, "warmup_steps", -(-self.warmup_samples // self.samples_a_step))

    def __call__(self, step: int) -> float:
        """The factor of the learning rate in step ``step`` (from 0)."""
        return (step + 1) / self.warmup_steps if step < self.warmup_steps else self.after(step)

    def after(self, step: int) -> float:
        """The factor in a step after the warm-up."""
        return 1.0

    def _share(self, step: int, begin: int) -> float:
        """How much of the time from step ``begin`` to the end has passed, 0 to 1."""
        return min(1.0, (step - begin) / max(1, self.max_steps - begin))


@dataclass(frozen=True)
class Constant(Schedule):
    """Linear warm-up, then 1."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up, then half a cosine from 1 to ``min_factor`` (Loshchilov & Hutter 2017, eq. 5)."""

    min_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor("min_factor", self.min_factor)

    def after(self, step: int) -> float:
        """See :class:`Schedule`."""
        done = self._share(step, self.warmup_steps)
        return self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Linear(Schedule):
    """Linear warm-up, then linear to ``min_factor`` at the end (BERT, appendix A.2)."""

    min_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor("min_factor", self.min_factor)

    def after(self, step: int) -> float:
        """See :class:`Schedule`."""
        return 1 - (1 - self.min_factor) * self._share(step, self.warmup_steps)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Linear warm-up, then 1 / sqrt(step / warm-up) (Vaswani et al. 2017, section 5.3, with 1 as its highest value)."""

    def after(self, step: int) -> float:
        """See :class:`Schedule`."""
        return math.sqrt(max(1, self.warmup_steps) / (step + 1))


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    """Linear warm-up, 1, and a decay over the last ``decay_share`` of the steps (WSD, Hu et al. 2024, section 4.2).

    Until the decay the rate does not depend on where the run ends, so that one can be prolonged from a checkpoint of
    its stable part.

    Attributes:
        decay_share: of ``max_steps``.
        decay_samples: the same in samples of all tasks together, rounded up to steps; None: ``decay_share`` counts.
        min_factor: where the decay ends.
        shape: ``linear``, or ``sqrt`` for 1 - sqrt(share of the decay) (Hägele et al. 2024, section 3.2).
    """

    decay_share: float = 0.1
    decay_samples: int | None = field(default=None, kw_only=True)
    min_factor: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_factor("min_factor", self.min_factor)
        if self.decay_samples is not None:
            _check_whole("decay_samples", self.decay_samples)
        if not 0 <= self.decay_share <= 1:
            raise InputError(f"decay_share={self.decay_share} is not between 0 and 1")
        if self.shape not in SHAPES:
            raise InputError(f"shape '{self.shape}' is not there; choices: {', '.join(SHAPES)}")

    def after(self, step: int) -> float:
        """See :class:`Schedule`."""
        steps = round(self.decay_share * self.max_steps)
        if self.decay_samples is not None:
            steps = -(-self.decay_samples // self.samples_a_step)
        begin = max(self.warmup_steps, self.max_steps - steps)
        if step < begin:
            return 1.0
        done = self._share(step, begin)
        return 1 - (1 - self.min_factor) * (done if self.shape == "linear" else math.sqrt(done))
