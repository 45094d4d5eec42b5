"""How a run is spread over devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pytorch_lightning.strategies import DDPStrategy, Strategy

from data.errors import InputError, choices

NAMES = ("auto", "ddp")


class ReplicatedStrategy(DDPStrategy):
    """Data parallel: each process holds the whole model, and the step itself sums the gradients.

    Torch's DDP wrapper averages each micro-batch's gradients and expects every backward pass to reach every parameter;
    a step here has several backward passes (tasks, micro-batches, cached features), each over some parameters. So the
    model stays unwrapped and gradients are summed once a step.
    """

    def configure_ddp(self) -> None:
        """Leaves the model as it is; processes build equal models from the same seed."""


def strategy_of(name: str, world_size: int, timeout_s: int) -> Strategy | str:
    """The Lightning strategy for ``trainer.strategy``.

    Raises:
        InputError: unknown name.
    """
    if name not in NAMES:
        raise InputError(f"trainer.strategy '{name}' is not there; {choices(name, NAMES)}")
    if name == "auto" and world_size == 1:
        return "auto"
    options: dict[str, Any] = {"timeout": timedelta(seconds=timeout_s)}
    return ReplicatedStrategy(**options)
