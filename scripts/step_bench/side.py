"""Both sides of the comparison: ours through the objective and the update of the trainer, and a peer's own step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from step_bench.measure import Parts, Row
from torch import nn

from modalities.encoder import Encoder
from modalities.objective import Objective, Step
from pretrain.optim.adamw import adamw
from pretrain.sharding.norms import clip

RATE, DECAY = 1e-4, 0.01


class Side:
    """A model with what feeds it.

    Args:
        name: of the side.
        batches: number of a batch -> samples, the same for all sides of a case.
        steps: updates a round.
        device, dtype: where it is computed; a 16-bit type is that of autocast.

    Attributes:
        losses: of all steps so far.
    """

    def __init__(
        self, name: str, batches: Callable[[int], Any], steps: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.name, self.batches, self.steps, self.device = name, batches, steps, device
        self.dtype = dtype
        self.number = 0
        self.losses: list[Any] = []

    def autocast(self) -> Any:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def learn(self, samples: Any, parts: Parts) -> tuple[float, float]:
        """One whole step, from samples to updated weights; returns its units and useful FLOPs."""
        raise NotImplementedError

    def round(self) -> Row:
        """``steps`` steps."""
        units = useful = 0.0
        parts = Parts()
        given = [self.batches(self.number + i) for i in range(self.steps)]
        for samples in given:
            parts.begin()
            found = self.learn(samples, parts)
            units, useful = units + found[0], useful + found[1]
        self.number += self.steps
        return Row(units, useful, parts=parts.seconds)


class Ours(Side):
    """An objective's step and the update as in ``pretrain.module``: the norm of the gradients, then AdamW.

    Args:
        encoders: side -> encoder.
        objective: what is learned.
        collate: samples -> batch, masks drawn.
        work: batch -> (units, useful FLOPs).
        compiled: whether the trunks' blocks are compiled.
    """

    def __init__(
        self,
        *base: Any,
        encoders: Mapping[str, Encoder],
        objective: Objective,
        collate: Callable[[Any, int], Any],
        work: Callable[[Any], tuple[float, float]],
        compiled: bool = False,
    ) -> None:
        super().__init__(*base)
        self.encoders, self.objective, self.collate, self.work = encoders, objective, collate, work
        self.parts = nn.ModuleDict({"encoders": nn.ModuleDict(encoders), "objective": objective}).to(self.device)
        self.parts.train()
        for encoder in encoders.values() if compiled else ():
            encoder.trunk.compile_blocks()  # type: ignore[union-attr, operator]
        self.optimizer = adamw(
            self.parts.named_parameters(), RATE, weight_decay=DECAY, device=self.device.type
        )  # as a run makes it

    def loss(self, batch: Any) -> float:
        """Forward and backward without an update."""
        with self.autocast():
            found = self.objective.step(self.encoders, [moved(batch, self.device)], Step(), 1.0)["loss"]
        self.optimizer.zero_grad()
        return float(found)

    def learn(self, samples: Any, parts: Parts) -> tuple[float, float]:
        batch = moved(self.collate(samples, self.number), self.device)
        parts.end("collate")
        with self.autocast():
            metrics = self.objective.step(self.encoders, [batch], Step(self.number), 1.0)
        parts.end("forward and backward")
        parameters = [p for p in self.parts.parameters() if p.grad is not None]
        clip(parameters, None)
        self.optimizer.step()
        self.optimizer.zero_grad()
        parts.end("update")
        self.losses.append(metrics["loss"])
        return self.work(batch)


class Peer(Side):
    """A model of another library with its usual collator and torch's fused AdamW.

    Args:
        model: whose parameters are trained.
        collate: samples -> what ``forward`` takes.
        forward: that -> loss.
        work: (samples, collated) -> (units, useful FLOPs).
        compiled: whether the model is compiled.
    """

    def __init__(
        self,
        *base: Any,
        model: nn.Module,
        collate: Callable[[Any], Any],
        forward: Callable[[Any], torch.Tensor],
        work: Callable[[Any, Any], tuple[float, float]],
        compiled: bool = False,
    ) -> None:
        super().__init__(*base)
        self.model = model.to(self.device).train()
        if compiled:
            self.model.compile()
        self.collate, self.forward, self.work = collate, forward, work
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)

    def learn(self, samples: Any, parts: Parts) -> tuple[float, float]:
        batch = moved(self.collate(samples), self.device)
        parts.end("collate")
        with self.autocast():
            loss = self.forward(batch)
        parts.end("forward")
        loss.backward()
        parts.end("backward")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        parts.end("update")
        self.losses.append(loss.detach())
        return self.work(samples, batch)


def moved(batch: Any, device: torch.device) -> Any:
    """Tensors and layouts of ``batch`` on ``device``."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if hasattr(batch, "pin_memory") and hasattr(batch, "to"):
        return batch.pin_memory().to(device, non_blocking=True) if isinstance(batch, torch.Tensor) else batch.to(device)
    return batch
