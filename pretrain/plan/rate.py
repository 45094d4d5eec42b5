"""How fast this machine multiplies matrices, for want of a better guess."""

from __future__ import annotations

import time

import torch

SIZE = 2048
_SECONDS = 0.5


def matmul_rate(device: str, precision: str) -> float:
    """FLOPs a second of large matrix products, the best of half a second of them.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: of the trainer; those of 16 bits are measured in that type.
    """
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float16 if "16" in precision else torch.float32
    size = SIZE if device == "cpu" else 4 * SIZE
    a = torch.randn(size, size, device=device).to(dtype)
    best, end = 0.0, time.perf_counter() + _SECONDS
    torch.mm(a, a)
    while time.perf_counter() < end or not best:
        begun = _now(device)
        torch.mm(a, a)
        best = max(best, 2 * size**3 / (_now(device) - begun))
    return best


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()
