"""The audio encoder: waveform -> features, a frame each 20 ms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.audio.frames import KERNELS, STRIDES
from modalities.audio.frontend import ConvFrontend
from modalities.encoder import Encoded, Encoder
from modalities.transformer import Transformer, initialise


class Frames(NamedTuple):
    """Frames before the trunk: ``raw`` (T, C) as the convolutions give them, ``normed`` (T, C) after their norm."""

    raw: Tensor
    normed: Tensor


class AudioEncoder(Encoder):
    """Convolutional front end, projection and the transformer trunk.

    Args:
        channels: C, channels of the front end.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        kernels, strides: of the front end, see :class:`modalities.audio.frontend.ConvFrontend`.
        feature_grad_mult: factor of the gradient that reaches the front end (fairseq: 0.1 for the base model).
        masking: whether it has an embedding for masked frames, which masked objectives need.
        pool: see :class:`modalities.encoder.Encoder`.
    """

    modality: ClassVar[str] = "audio"

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: str = "pre",
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        feature_grad_mult: float = 1.0,
        masking: bool = True,
        pool: str = "mean",
    ) -> None:
        super().__init__(width, pool)
        self.channels = channels
        self.feature_grad_mult = feature_grad_mult
        self.frontend = ConvFrontend(channels, kernels, strides)
        self.feature_norm = nn.LayerNorm(channels)
        self.feature_projection = nn.Linear(channels, width)
        self.mask_embedding = nn.Parameter(torch.rand(width)) if masking else None
        self.trunk = Transformer(width, depth, heads, mlp_ratio, dropout, norm, rotary=True)
        initialise(self.feature_projection)

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """Features of what ``AudioPrepare.collate`` made -> (T, D); frames in ``masked``, where given, are hidden."""
        return self.contextualise(self.features(inputs), inputs)

    def features(self, inputs: dict[str, Any]) -> Frames:
        """Frames of the clips, nothing masked."""
        self._check(inputs)
        raw = self.frontend(inputs["wave"])[inputs["rows"]]
        if self.feature_grad_mult != 1 and raw.requires_grad:
            raw.register_hook(lambda grad: grad * self.feature_grad_mult)
        return Frames(raw, self.feature_norm(raw))

    def contextualise(self, frames: Frames, inputs: dict[str, Any]) -> Encoded:
        """What the trunk makes of ``frames`` where those in ``masked``, if given, are replaced."""
        x = self.feature_projection(frames.normed)
        if "masked" in inputs:
            if self.mask_embedding is None:
                raise InputError("the audio encoder has no embedding for masked frames; set masking=true")
            x = x.index_put((inputs["masked"],), self.mask_embedding.to(x.dtype))
        return Encoded(self.trunk(x, inputs["layout"]), inputs["layout"])

    def _check(self, inputs: dict[str, Any]) -> None:
        if [self.frontend.frames(n) for n in inputs["samples"]] != inputs["layout"].lengths:
            raise InputError(
                "the audio prepare and the encoder's front end count frames differently; "
                "give both the same kernels and strides"
            )
