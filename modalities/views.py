"""Two views of one sample find each other (SimCLR, Chen et al. 2020, section 2). N samples, E features."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.sample import Sample
from modalities.encoder import Encoder
from modalities.objective import Encoders
from modalities.pairs import Pairs
from modalities.prepare import Item, Sides
from modalities.similarity import Parts, by_rows


class TwoViews(Sides):
    """Prepares a sample twice, augmented each time: views ``a`` and ``b``.

    Held-out samples are augmented too, as they are masked for other objectives: between two like views there is nothing
    to find. The second view draws from where the first one left the sample's own generator.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """One item a view; ``training`` makes no difference."""
        return super().__call__(sample, rng, True)


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(N, E) unit rows of both views -> loss summed over the samples, and how often the other view came first.

    Eq. 1: each of the 2N views is told from the 2N - 2 of other samples; the two terms of a sample are averaged.
    Computed in the precision of the rows, also under autocast.
    """
    views, partners = torch.cat((a, b)), torch.cat((b, a))
    losses, found = by_rows(partial(_nt_xent, temperature=temperature), views, partners)
    return losses.sum() / 2, (found.sum().float() / 2).detach()


def _nt_xent(views: Tensor, begin: int, partners: Tensor, *, temperature: float) -> Parts:
    """Of a block of the 2N views, whose partners have their numbers."""
    number = torch.arange(begin, begin + len(views), device=views.device)
    itself = torch.arange(len(partners), device=views.device).roll(len(partners) // 2) == number[:, None]
    logits = (views @ partners.T / temperature).masked_fill(itself, -math.inf)
    return F.cross_entropy(logits, number, reduction="sum"), (logits.argmax(1) == number).sum()


class Views(Pairs):
    """NT-Xent between two views of each sample, as one encoder of any modality sees them.

    The loss is taken behind a head of two layers that only training needs: what the encoder itself gives keeps more of
    what augmentation changes (section 4.2).

    Args:
        width: D of the encoder.
        embed_dim: E, in which views are compared; the head's own, no joint space with other tasks.
        temperature: what cosine similarities are divided by; fixed.
    """

    def __init__(self, width: int, embed_dim: int, temperature: float = 0.2) -> None:
        super().__init__(embed_dim)
        if not temperature > 0:
            raise InputError(f"temperature={temperature} is not above 0")
        self.temperature = temperature
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, embed_dim))

    def accept(self, encoders: Encoders) -> str | None:
        """Why the encoders do not fit, None if they do."""
        kinds = sorted({encoder.modality for encoder in encoders.values()})
        if len(kinds) > 1:
            return f"two views are of one modality, these encoders take {' and '.join(kinds)}"
        return None

    def connect(self, encoders: Encoders) -> None:
        """The encoder gets nothing: the head is the objective's own."""

    def project(self, encoder: Encoder, features: Tensor) -> Tensor:
        """(n, D) features of one view -> (n, E) float32 unit vectors, by the head."""
        return F.normalize(self.head(features).float(), dim=-1)

    def pairwise(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`nt_xent`."""
        return nt_xent(a, b, self.temperature)

    def guess(self, pairs: int) -> float:
        """All views alike."""
        return math.log(2 * pairs - 1)
