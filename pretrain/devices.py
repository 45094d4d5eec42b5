"""Where is computed, outside of training, and batches that go there."""

from __future__ import annotations

import os
from typing import Any

import torch

from data.errors import InputError, choices

DEVICES = ("auto", "cpu", "cuda")


def device_of(wanted: str) -> torch.device:
    """``auto`` is a GPU where there is one; of several each process of a host takes its own.

    Raises:
        InputError: there is none, or no such word.
    """
    if wanted not in DEVICES:
        raise InputError(f"--device '{wanted}' is unknown; {choices(wanted, DEVICES)}")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; give --device cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def moved(batch: Any, device: torch.device) -> Any:
    """A prepared batch on ``device``."""
    if isinstance(batch, dict):
        return {key: moved(inner, device) for key, inner in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch
