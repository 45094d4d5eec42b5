"""Random numbers as a function of integers, with no state: the same on any device and in any division of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

# Constants of splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), as the signed
# integers that torch knows; products wrap around modulo 2**64 just as unsigned ones.
STEP = 0x9E3779B97F4A7C15 - 2**64
FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def fold(seeds: Tensor, numbers: Tensor) -> Tensor:
    """Seeds of their own for ``numbers`` under ``seeds``; int64 of one shape (or broadcast) -> int64."""
    return _mix(_mix(seeds + STEP) + numbers * STEP)


def uniform(seeds: Tensor, n: int) -> Tensor:
    """(N,) int64 -> (N, n) float32 in the open interval (0, 1): row i depends on ``seeds[i]`` alone."""
    bits = fold(seeds.unsqueeze(1), torch.arange(n, device=seeds.device))
    # 23 bits and a half: float32 holds k + 0.5 exactly for every such k, so that neither 0 nor 1 can come out.
    return (_shift(bits, 41).to(torch.float32) + 0.5) * 2.0**-23


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own repeats the sign."""
    return (x >> bits).bitwise_and_(2 ** (64 - bits) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64: each bit of the input flips each bit of the output with probability 1/2."""
    x = (x ^ _shift(x, 30)).mul_(FACTORS[0])
    x.bitwise_xor_(_shift(x, 27)).mul_(FACTORS[1])
    return x.bitwise_xor_(_shift(x, 31))
