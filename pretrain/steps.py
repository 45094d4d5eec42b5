"""A task's part of a step of a running trainer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from data.seeds import derive
from modalities.objective import Found, Given, Step, Sums
from pretrain.gradients import Gradients, all_sum
from pretrain.model import Model


class Trained(Protocol):
    """What a step needs of what is trained: the Lightning module, or less."""

    seed: int
    model: Model

    @property
    def gradients(self) -> Gradients:
        """Those of the step."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning has it: with its precision and strategy."""


class TrainerStep(Step):
    """Collectives over the trainer's processes, gathered parameters, seeds of its own.

    Args:
        module: what is trained.
        number: the step, starting at 0.
        task: its name.
    """

    def __init__(self, module: Trained, number: int, task: str) -> None:
        super().__init__(number)
        self.module, self.task, self.gradients = module, task, module.gradients
        self.rank, self.world_size = self.gradients.rank, self.gradients.world_size
        self.micro = 0

    def backward(self, loss: Tensor) -> None:
        """See :class:`Step`."""
        self._backward(loss)
        self.gradients.take(self.micro)

    def backward_alike(self, loss: Tensor) -> None:
        """See :class:`Step`."""
        self._backward(loss * self.gradients.share)
        self.gradients.take_alike()

    def _backward(self, loss: Tensor) -> None:
        # Outside of autocast, as torch asks for: what was computed in float32 on purpose has its gradient in it too.
        with torch.autocast(self.module.device.type, enabled=False):
            self.module.manual_backward(loss)

    def run(self, function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Found:
        """See :class:`Step`."""
        return self.module.model.run(function, *given, **named)

    def all_sum(self, x: Tensor) -> Tensor:
        """See :class:`Step`."""
        return all_sum(x, self.world_size)

    def total(self, parts: Sequence[Sums]) -> Sums:
        """See :class:`Step`."""
        return self.gradients.total(parts)

    def all_gather(self, x: Tensor) -> Tensor:
        """See :class:`Step`."""
        if self.world_size == 1:
            return x
        # A global batch is dealt evenly, so every process has the same number of rows.
        parts = [torch.empty_like(x) for _ in range(self.world_size)]
        dist.all_gather(parts, x.detach().contiguous())
        return torch.cat(parts)

    def seed(self, micro: int) -> None:
        """See :class:`Step`."""
        self.micro = micro
        first, *rest = self.gradients.names(micro)
        seed = derive(self.module.seed, "model", self.number, first, self.task, *rest)
        torch.default_generator.manual_seed(seed)
        # Modules from elsewhere draw from these (SpecAugment in transformers): where a contrastive loss embeds a
        # micro-batch a second time, the gradient must be that of what was compared.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        if self.module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
