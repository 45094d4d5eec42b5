"""The one LightningModule: a batch is a step, and a step is the same whatever the objectives are."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from data.loading.loader import StepBatch
from data.seeds import derive
from modalities.objective import Step
from pretrain.model import Model
from pretrain.optim.clip import clip
from pretrain.optim.ema import Ema
from pretrain.optim.groups import locked
from pretrain.optim.state import settle
from pretrain.start import Start


class TrainerStep(Step):
    """A step of a running trainer: collectives over its processes, seeds of its own."""

    def __init__(self, module: Pretraining, number: int, task: str) -> None:
        super().__init__(number)
        self.module, self.task = module, task
        self.rank, self.world_size = module.trainer.global_rank, module.trainer.world_size

    def backward(self, loss: Tensor) -> None:
        """See :class:`Step`."""
        self.module.manual_backward(loss)

    def all_sum(self, x: Tensor) -> Tensor:
        """See :class:`Step`."""
        if self.world_size == 1:
            return x
        total = x.detach().clone()
        dist.all_reduce(total)
        return total

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
        seed = derive(self.module.seed, "model", self.number, self.rank, self.task, micro)
        torch.default_generator.manual_seed(seed)
        if self.module.device.type == "cuda":
            torch.cuda.manual_seed(seed)


class Pretraining(pl.LightningModule):
    """Trains a :class:`Model`, one optimizer update a batch.

    Args:
        model: encoders and tasks.
        optimizer: made by a factory over the model's named parameters.
        schedule: step -> factor of the learning rate.
        seed: of the run.
        gradient_clip_norm: largest global norm of the gradient, None for no limit.
        ema: moving average of the weights, None for none.

    Attributes:
        start: where this process began.
        steps_done: optimizer updates so far, over all processes that worked on the run.
        weights: factor of each task's loss in the last step.
        last: metrics of the last step, task -> name -> scalar tensor, and ``gradient_norm`` and ``lr`` under "".
        held_out: metrics measured after the last step, empty where none was due.
        seconds: how long the last step took to compute.
    """

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        seed: int,
        gradient_clip_norm: float | None,
        ema: Ema | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.gradient_clip_norm = gradient_clip_norm
        self.ema = ema
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.lr = optimizer.defaults.get("lr", self.base_lrs[0])
        self.locked = locked(model)
        self.weights: dict[str, float] = {}
        self.start = Start(0, {})
        self.steps_done = 0
        self.last: dict[str, dict[str, Tensor]] = {}
        self.held_out: dict[str, float] = {}
        self.seconds = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer it was given."""
        return self.optimizer

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        """Moves tensors; sample identities stay on the host."""
        batch.tasks = super().transfer_batch_to_device(batch.tasks, device, dataloader_idx)
        return batch

    def on_train_start(self) -> None:
        """The model is where it will be computed; so must the optimizer's counters be."""
        settle(self.optimizer)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Forward and backward of every task, then one update."""
        began = time.perf_counter()
        self.last, self.held_out = {}, {}
        for part in self.locked:  # what is not trained is not disturbed either: no dropout
            if part.training:
                part.eval()
        for name, task in self.model.tasks.items():
            step = TrainerStep(self, batch.step, name)
            encoders = self.model.sides(task.sides)
            self.weights[name] = task.weight(batch.step)
            self.last[name] = task.objective.step(encoders, batch.tasks[name], step, self.weights[name])
            if not task.weight.constant:
                self.last[name]["weight"] = torch.tensor(self.weights[name])
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        self._sum_gradients(parameters)
        norm = clip(parameters, self.gradient_clip_norm)
        factor = self.schedule(batch.step)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()
        optimizer.zero_grad()
        self.steps_done = batch.step + 1
        if self.ema is not None:
            self.ema.update(self.steps_done)
        self.last[""] = {"gradient_norm": norm.detach(), "lr": torch.tensor(self.lr * factor)}
        self.seconds = time.perf_counter() - began

    def _sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Adds up the gradients of all processes; every loss is already divided by the global count."""
        if self.trainer.world_size == 1:
            return
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        start = 0
        for p in parameters:
            assert p.grad is not None
            p.grad.copy_(flat[start : start + p.numel()].view_as(p.grad))
            start += p.numel()
