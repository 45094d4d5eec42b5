"""Normalisations by name."""

from __future__ import annotations

from torch import nn

from data.errors import InputError, choices

NORMS = ("layer", "rms")


def norm_of(kind: str, width: int, eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang & Sennrich 2019, which has no bias) over ``width`` features.

    Raises:
        InputError: unknown ``kind``, or ``eps`` is not positive.
    """
    if kind not in NORMS:
        raise InputError(f"norm_kind '{kind}' is unknown; {choices(kind, NORMS)}")
    if not eps > 0:
        raise InputError(f"norm_eps={eps} must be positive")
    return nn.RMSNorm(width, eps) if kind == "rms" else nn.LayerNorm(width, eps, bias=bias)
