"""InfoNCE between a pair of encoders (CLIP, Radford et al. 2021, section 2.3). Sides a and b, N pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.pairs import Pairs, recall
from modalities.similarity import Parts, best, by_rows, hits, own

__all__ = ["MAX_LOGIT_SCALE", "Contrastive", "info_nce", "recall"]

MAX_LOGIT_SCALE = math.log(100.0)


def info_nce(a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(N, E) unit rows of both sides -> summed symmetric cross-entropy, and how often the right pair came first.

    Eq. in CLIP, figure 3: half the cross-entropy of a's rows and half of b's. Computed in the precision of the rows,
    also under autocast: eight bits of mantissa cannot tell the logits of a good model apart.
    """
    losses, columns, *places = by_rows(_info_nce, a, b, scale)
    return (losses.sum() + columns.logsumexp(0).sum()) / 2, hits(*places)


def _info_nce(a: Tensor, begin: int, b: Tensor, scale: Tensor) -> Parts:
    """Of a block of a's rows: what they add to both losses but the columns' normalisers, and its part in those."""
    logits = scale * a @ b.T
    return (logits.logsumexp(1) - 2 * own(logits, begin)).sum(), logits.logsumexp(0), *best(logits, begin)


class Contrastive(Pairs):
    """Symmetric InfoNCE between any two encoders, with a learned temperature.

    Args:
        embed_dim: E, size of the joint space. Tasks with the same ``embed_dim`` share each encoder's projection.
        temperature: where the learned temperature begins; its inverse is clamped to at most 100 (CLIP, section 2.5).
    """

    def __init__(self, embed_dim: int, temperature: float = 0.07) -> None:
        super().__init__(embed_dim)
        if temperature < 0.01:
            raise InputError(f"temperature={temperature} is below 0.01, where the logit scale is clamped")
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def scale(self) -> Tensor:
        """The inverse temperature."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    def settle(self) -> None:
        """In place, as CLIP does: beyond the clamp there would be no gradient to come back by."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def pairwise(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`info_nce`."""
        return info_nce(a, b, self.scale())

    def learned(self) -> dict[str, Tensor]:
        """The temperature."""
        return {"temperature": 1 / self.scale().detach()}

    def guess(self, pairs: int) -> float:
        """All pairs alike."""
        return math.log(pairs)
