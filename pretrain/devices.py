"""Where is computed, and batches that go there."""

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


def accelerator_of(name: str) -> str:
    """``auto`` means CUDA where there is one, else CPU: Apple's GPU lacks the float64 that sums are kept in.

    Raises:
        InputError: unknown, or not on this machine.
    """
    known = {"auto", "cpu", "cuda", "gpu"}
    if name not in known:
        raise InputError(f"trainer.accelerator '{name}' is not there; {choices(name, known)}")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name in ("cuda", "gpu") and not torch.cuda.is_available():
        raise InputError(f"trainer.accelerator={name}, but this machine has no CUDA device; choices here: auto, cpu")
    return name


def moved(batch: Any, device: torch.device) -> Any:
    """A prepared batch on ``device``."""
    if isinstance(batch, dict):
        return {key: moved(inner, device) for key, inner in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch
