"""The audio encoder: waveform -> features, a frame each 20 ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.audio.frames import KERNELS, STRIDES
from modalities.audio.frontend import ConvFrontend
from modalities.audio.mel import MelFrontend
from modalities.audio.positions import ConvPositions
from modalities.encoder import Encoded, Encoder
from modalities.transformer import initialise, trunk_of

POSITIONS = ("rotary", "convolutional")


class Frames(NamedTuple):
    """Frames before the trunk: ``raw`` (T, C) as the convolutions give them, ``normed`` (T, C) after their norm."""

    raw: Tensor
    normed: Tensor


class AudioEncoder(Encoder):
    """Convolutional front end, projection, positions and the transformer trunk.

    wav2vec 2.0's base model is ``frontend_norm="group", frontend_bias=False, positions="convolutional", norm="post"``
    with ``trunk={"input_norm": True}``; its large one has ``positions="convolutional"`` alone (conf/encoder).

    Args:
        channels: C, channels of the front end.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        kernels, strides: of the front end, see :class:`modalities.audio.frontend.ConvFrontend`.
        feature_grad_mult: factor of the gradient that reaches the front end (fairseq: 0.1 for the base model).
        masking: whether it has an embedding for masked frames, which masked objectives need.
        pool: see :class:`modalities.encoder.Encoder`.
        frontend_norm, frontend_bias: ``norm`` and ``bias`` of the front end.
        positions: ``rotary``, or ``convolutional``, see :class:`modalities.audio.positions.ConvPositions`.
        position_kernel, position_groups: of convolutional positions.
        feature_dropout: on the projected frames, before some are masked (fairseq: ``dropout_input``).
        mel_bands: 0, or bands of the spectrum that the convolutions see instead of the waveform; ``kernels`` and
            ``strides`` then begin with the spectrum's, see :class:`modalities.audio.mel.MelFrontend`.
        sample_rate: in Hz, of the waveform; only the spectrum needs it.
        trunk: further settings of the trunk.
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
        frontend_norm: str = "layer",
        frontend_bias: bool = True,
        positions: str = "rotary",
        position_kernel: int = 128,
        position_groups: int = 16,
        feature_dropout: float = 0.0,
        mel_bands: int = 0,
        sample_rate: int = 16_000,
        trunk: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(width, pool)
        if positions not in POSITIONS:
            raise InputError(f"positions '{positions}' is unknown; {choices(positions, POSITIONS)}")
        if not 0 <= feature_dropout < 1:
            raise InputError(f"feature_dropout={feature_dropout} is not a share: 0 <= feature_dropout < 1")
        self.channels = channels
        self.feature_dropout = feature_dropout
        self.feature_grad_mult = feature_grad_mult
        if mel_bands and (frontend_norm != "layer" or not frontend_bias):
            raise InputError(
                "frontend_norm and frontend_bias are for convolutions on the waveform; mel_bands has others"
            )
        self.frontend: ConvFrontend | MelFrontend
        if mel_bands:
            self.frontend = MelFrontend(mel_bands, channels, kernels, strides, sample_rate)
        else:
            self.frontend = ConvFrontend(channels, kernels, strides, frontend_norm, frontend_bias)
        self.feature_norm = nn.LayerNorm(channels)
        self.feature_projection = nn.Linear(channels, width)
        self.mask_embedding = nn.Parameter(torch.rand(width)) if masking else None
        self.positions = None
        if positions == "convolutional":
            self.positions = ConvPositions(width, position_kernel, position_groups)
        self.trunk = trunk_of(
            trunk,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            norm=norm,
            causal=False,
            rotary=positions == "rotary",
        )
        if (trunk or {}).get("initialisation") != "wav2vec2":  # whose projection begins as torch makes it
            initialise(self.feature_projection)

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """Features of what ``AudioPrepare.collate`` made -> (T, D); frames in ``masked``, where given, are hidden."""
        return self.contextualise(self.features(inputs), inputs)

    def features(self, inputs: dict[str, Any]) -> Frames:
        """Frames of the clips, nothing masked."""
        self._check(inputs)
        raw = self.frontend(inputs["wave"], inputs["samples"])[inputs["rows"]]
        if self.feature_grad_mult != 1 and raw.requires_grad:
            raw.register_hook(lambda grad: grad * self.feature_grad_mult)
        return Frames(raw, self.feature_norm(raw))

    def contextualise(self, frames: Frames, inputs: dict[str, Any]) -> Encoded:
        """What the trunk makes of ``frames`` where those in ``masked``, if given, are replaced."""
        x = self.feature_projection(frames.normed)
        if self.feature_dropout:
            x = F.dropout(x, self.feature_dropout, self.training)
        if "masked" in inputs:
            if self.mask_embedding is None:
                raise InputError("the audio encoder has no embedding for masked frames; set masking=true")
            x = x.index_put((inputs["masked"],), self.mask_embedding.to(x.dtype))
        if self.positions is not None:
            x = x + self.positions(x, inputs["layout"])
        return Encoded(self.trunk(x, inputs["layout"]), inputs["layout"])

    def _check(self, inputs: dict[str, Any]) -> None:
        if [self.frontend.frames(n) for n in inputs["samples"]] != inputs["layout"].lengths:
            raise InputError(
                "the audio prepare and the encoder's front end count frames differently; "
                "give both the same kernels and strides"
            )
