"""Batches -> one vector a sample: which layer, how a sequence becomes one vector, which joint space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.encoder import POOLS, Encoder
from modalities.image.encoder import ImageEncoder
from modalities.transformer import Transformer

OWN = "own"
POOLINGS = (OWN, *POOLS)
AUTO, NONE = "auto", "none"


class Extractor:
    """One vector a sample, out of a trained encoder.

    Args:
        encoder: changed where ``layer`` asks for it.
        pool: ``mean``, ``first``, ``last``, or ``own``: as the encoder does it.
        projection: ``auto``: the encoder's only one, none where it has none; ``none``; or the features of one.
        layer: so many blocks of the trunk alone, without the norm behind the last, 0 for what goes into the first
            (the ``hidden_states[layer]`` of ``transformers``); None: all and the norm. Earlier layers often carry
            more of what is to be told apart (Pasad et al. 2021 for wav2vec 2.0).

    Attributes:
        projection: features of the joint space, None: without.
        width: D of what comes out.

    Raises:
        InputError: the encoder has nothing of the kind.
    """

    def __init__(self, encoder: Encoder, pool: str = OWN, projection: str = AUTO, layer: int | None = None) -> None:
        if pool not in POOLINGS:
            raise InputError(f"--pool '{pool}' is unknown; {choices(pool, POOLINGS)}")
        self.encoder, self.pool = encoder, pool
        self.projection = _projection(encoder, NONE if layer is not None and projection == AUTO else projection)
        if layer is not None:
            if self.projection is not None:
                raise InputError(
                    f"--layer {layer} has no projection, which is of the last layer; give --projection none"
                )
            _cut(encoder, layer)
        self.width = self.projection or encoder.width

    @torch.no_grad()
    def __call__(self, inputs: dict[str, Any]) -> Tensor:
        """What the encoder takes of B samples -> (B, D) float32, not normalised."""
        pooled = self.encoder.pooled(inputs, None if self.pool == OWN else self.pool)
        return (pooled if self.projection is None else self.encoder.projections[str(self.projection)](pooled)).float()


def _projection(encoder: Encoder, wanted: str) -> int | None:
    known = list(encoder.projections)
    if wanted == NONE or (wanted == AUTO and not known):
        return None
    if wanted == AUTO and len(known) == 1:
        return int(known[0])
    if wanted not in known:
        raise InputError(f"--projection '{wanted}' is not there; {choices(wanted, [*known, NONE])}")
    return int(wanted)


def _cut(encoder: Encoder, layer: int) -> None:
    trunk = getattr(encoder, "trunk", None)
    if not isinstance(trunk, Transformer):
        raise InputError(f"--layer: {type(encoder).__name__} has no trunk of blocks that could be cut")
    if not 0 <= layer <= len(trunk.blocks):
        raise InputError(f"--layer {layer} is not between 0 and {len(trunk.blocks)}, the blocks of this encoder")
    trunk.blocks = nn.ModuleList(list(trunk.blocks)[:layer])
    trunk.norm = nn.Identity()
    if isinstance(encoder, ImageEncoder):
        encoder.pooled_norm = None  # the last norm as well
