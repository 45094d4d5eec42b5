"""The one LightningModule: a batch is a step, and a step is the same whatever the objectives are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data.loading.loader import StepBatch
from pretrain.gradients import Gradients
from pretrain.model import Model
from pretrain.optim.ema import Ema
from pretrain.optim.groups import locked
from pretrain.optim.state import settle
from pretrain.sharding.norms import clip
from pretrain.sharding.shard import reshard
from pretrain.soundness.guard import Guard
from pretrain.start import Start
from pretrain.steps import TrainerStep
from pretrain.stopwatch import Stopwatch


class Pretraining(pl.LightningModule):
    """Trains a :class:`Model`, one optimizer update a batch.

    Args:
        model: encoders and tasks.
        optimizer: made by a factory over the model's named parameters.
        schedule: step -> factor of the learning rate.
        seed: of the run.
        gradient_clip_norm: largest global norm of the gradient, None for no limit.
        ema: moving average of the weights, None for none.
        summing: makes what adds up gradients, of model, rank and number of processes.
        guard: says whether a step's update is made; None for one that leaves out numbers that are none.

    Attributes:
        gradients: what adds them up, once training has begun.
        start: where this process began.
        steps_done: optimizer updates so far, over all processes that worked on the run.
        weights: factor of each task's loss in the last step.
        last: metrics of the last step, task -> name -> scalar tensor, and ``gradient_norm`` and ``lr`` under "".
        held_out: metrics measured after the last step, empty where none was due.
        all_measured: whether these are all that the run has; some may be measured less often.
        metrics: names of all that the run has, as in ``held_out``; None before each was measured once.
        stopwatch: of the last step's computing.
    """

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        seed: int,
        gradient_clip_norm: float | None,
        ema: Ema | None = None,
        summing: Callable[[nn.Module, int, int], Gradients] = Gradients,
        guard: Guard | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.gradient_clip_norm = gradient_clip_norm
        self.ema = ema
        self.summing = summing
        self.guard = guard if guard is not None else Guard(list(model.tasks), spikes=False)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # what the schedule multiplies
        self.lr = optimizer.defaults.get("lr", optimizer.param_groups[0]["lr"])
        self.locked = locked(model)
        self.weights: dict[str, float] = {}
        self.start = Start(0, {})
        self.steps_done = 0
        self.last: dict[str, dict[str, Tensor]] = {}
        self.held_out: dict[str, float] = {}
        self.all_measured = True
        self.metrics: set[str] | None = None
        self.stopwatch = Stopwatch()

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
        self.guard.restore(self.start.sickness)
        self.gradients = self.summing(self.model, self.trainer.global_rank, self.trainer.world_size)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """Forward and backward of every task, then one update."""
        self.stopwatch.begin(self.device)
        self.last, self.held_out = {}, {}
        for part in self.locked:  # what is not trained is not disturbed either: no dropout
            if part.training:
                part.eval()
        for name, task in self.model.tasks.items():
            self.gradients.begin(len(batch.tasks[name]))
            step = TrainerStep(self, batch.step, name)
            encoders = self.model.sides(task.sides)
            self.weights[name] = task.weight(batch.step)
            self.last[name] = task.objective.step(encoders, batch.tasks[name], step, self.weights[name])
            self.gradients.end()
            if not task.weight.constant:
                self.last[name]["weight"] = _number(self.weights[name])
        parameters = self.gradients.finish()
        norm = clip(parameters, self.gradient_clip_norm)
        factor = self.schedule(batch.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._update(self.guard.judge(batch.step + 1, self.last, norm))
        self.steps_done = batch.step + 1
        if self.ema is not None:
            self.ema.update(self.steps_done)
        self.last[""] = {"gradient_norm": norm.detach(), "lr": _number(self.lr * factor)}
        self.stopwatch.end()

    def _update(self, sound: Tensor) -> None:
        """Changes the weights by the gradients, unless ``sound`` says that the step was not."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        reshard(self.model)
        self.guard.update(self.optimizer, optimizer.step, sound)
        optimizer.zero_grad()


def _number(value: float) -> Tensor:
    """() float32, also where torch's default is less (``trainer.precision=bf16-true``)."""
    return torch.tensor(value, dtype=torch.float32)
