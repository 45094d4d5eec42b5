"""The product quantizer of wav2vec 2.0 (section 2 and 3.2). M frames, G groups (code books) of V codes each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.counter import uniform


class Quantised(NamedTuple):
    """``vectors`` (M, latent_dim) of the codes chosen, ``codes`` (M, G) int64 their numbers."""

    vectors: Tensor
    codes: Tensor


class GumbelQuantizer(nn.Module):
    """Chooses one code of each group by Gumbel softmax with straight-through gradients (Jang et al. 2017).

    Args:
        features: size of a frame.
        latent_groups: G.
        latent_vars: V.
        latent_dim: size of the vectors of all groups together.
        latent_temp: temperature at step 0, its floor, and its factor a step.
    """

    def __init__(
        self,
        features: int,
        latent_groups: int = 2,
        latent_vars: int = 320,
        latent_dim: int = 256,
        latent_temp: Sequence[float] = (2.0, 0.5, 0.999995),
    ) -> None:
        super().__init__()
        if latent_dim % latent_groups:
            raise InputError(f"latent_groups={latent_groups} does not divide latent_dim={latent_dim}")
        if len(latent_temp) != 3 or min(latent_temp) <= 0 or latent_temp[2] > 1:
            raise InputError(f"latent_temp={list(latent_temp)} is not [start, end, decay], decay at most 1")
        self.groups, self.size = latent_groups, latent_vars
        self.start, self.end, self.decay = latent_temp
        self.choose = nn.Linear(features, latent_groups * latent_vars)
        self.codebook = nn.Parameter(torch.rand(latent_groups, latent_vars, latent_dim // latent_groups))
        # As in fairseq: logits with a standard deviation of sqrt(features) spread frames over all codes from the start.
        nn.init.normal_(self.choose.weight)
        nn.init.zeros_(self.choose.bias)

    def temperature(self, step: int) -> float:
        """The Gumbel temperature at step number ``step``."""
        return max(self.start * self.decay**step, self.end)

    def logits(self, x: Tensor) -> Tensor:
        """(M, features) -> (M, G, V), float32 at least."""
        return full(self.choose(x)).unflatten(1, (self.groups, self.size))

    def forward(self, logits: Tensor, temperature: float, seeds: Tensor) -> Quantised:
        """Codes for :meth:`logits`: a draw in training, the likeliest in evaluation.

        Args:
            logits: (M, G, V).
            temperature: of the softmax whose gradient the choice gets.
            seeds: (M,) int64, of the noise of each frame.
        """
        if not self.training:
            codes = logits.argmax(-1)
            group = torch.arange(self.groups, device=codes.device)
            return Quantised(self.codebook[group, codes].flatten(1), codes)
        noise = -torch.log(-torch.log(uniform(seeds, self.groups * self.size)))
        soft = ((logits + noise.view_as(logits)) / temperature).softmax(-1)
        codes = soft.argmax(-1)
        # Added in this order the value is exactly one and zeros, so that equal codes give equal vectors.
        hard = torch.zeros_like(soft).scatter_(-1, codes.unsqueeze(-1), 1) + (soft - soft.detach())
        vectors = torch.bmm(hard.transpose(0, 1), self.codebook.to(hard.dtype))
        return Quantised(vectors.transpose(0, 1).flatten(1), codes)

    def numbers(self, codes: Tensor) -> Tensor:
        """(M, G) -> (M,) int64: one number a combination of codes."""
        number = codes[:, 0]
        for chosen in codes.unbind(1)[1:]:
            number = number * self.size + chosen
        return number


def perplexity(shares: Tensor) -> Tensor:
    """(G, V) shares of the codes -> the sum over groups of exp(entropy): from G (collapsed) to G * V (all alike)."""
    return torch.exp(-(shares * torch.log(shares + 1e-7)).sum(-1)).sum()


def full(x: Tensor) -> Tensor:
    """``x`` in float32 where it is in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
