"""What a checkpoint says, whatever files hold it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Content:
    """What a checkpoint says, file format aside.

    Attributes:
        model: parameter or buffer name -> tensor.
        optimizer: ``PARAMETER/STATE`` -> tensor.
        state: JSON values: ``step``, ``positions`` (task -> samples consumed), digests of data and tokenizers, ...
        ema: parameter name -> its moving average, float32; empty where none is kept.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    ema: dict[str, Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return int(self.state["step"])


def digest(content: Content) -> str:
    """SHA-256 of the logical content: weights, their average, optimizer state, positions, schedule; not of its form."""
    total = hashlib.sha256()
    for kind, tensors in (("model", content.model), ("optimizer", content.optimizer), ("ema", content.ema)):
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            total.update(f"{kind}/{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    logical = {key: content.state[key] for key in ("step", "positions", "schedule")}
    total.update(json.dumps(logical, sort_keys=True).encode())
    return total.hexdigest()
