"""Sigmoid loss of a pair of encoders (SigLIP, Zhai et al. 2023, section 3.2). Sides a and b, N pairs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.pairs import Pairs
from modalities.similarity import Parts, best, by_rows, hits, own


def sigmoid_loss(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) unit rows of both sides -> loss summed over all N x N pairs, and how often the right pair came first.

    Eq. 1 times N: each pair by itself is told to be one (the diagonal) or not. Computed in the precision of the rows,
    also under autocast.
    """
    losses, *places = by_rows(_sigmoid_loss, a, b, scale, bias)
    return losses.sum(), hits(*places)


def _sigmoid_loss(a: Tensor, begin: int, b: Tensor, scale: Tensor, bias: Tensor) -> Parts:
    logits = scale * a @ b.T + bias
    # -log sigmoid(-x) of all pairs; -log sigmoid(x) = -log sigmoid(-x) - x of the right ones.
    return F.softplus(logits).sum() - own(logits, begin).sum(), *best(logits, begin)


class SigLIP(Pairs):
    """Each of the N x N pairs is classified by itself, with a learned temperature and bias.

    Args:
        embed_dim: E, size of the joint space. Tasks with the same ``embed_dim`` share each encoder's projection.
        temperature: where the learned temperature begins; the paper's t' = log 10 is 0.1. It is not clamped.
        bias: where the learned bias begins; without one this low the many wrong pairs of the first steps would
            outweigh everything (section 3.2).
    """

    def __init__(self, embed_dim: int, temperature: float = 0.1, bias: float = -10.0) -> None:
        super().__init__(embed_dim)
        if not temperature > 0:
            raise InputError(f"temperature={temperature} is not above 0")
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.logit_bias = nn.Parameter(torch.tensor(float(bias)))

    def pairwise(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`sigmoid_loss`."""
        return sigmoid_loss(a, b, self.logit_scale.exp(), self.logit_bias)

    def learned(self) -> dict[str, Tensor]:
        """Temperature and bias."""
        return {"temperature": (-self.logit_scale.detach()).exp(), "bias": self.logit_bias.detach().clone()}

    def guess(self, pairs: int) -> float:
        """All pairs alike, each given the share 1/N of right ones."""
        return math.log(pairs) - (pairs - 1) * math.log1p(-1 / pairs) if pairs > 1 else 0.0
