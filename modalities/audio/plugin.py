"""Any module that turns waveforms into features as an audio encoder: torchaudio, ``transformers``, an own one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.audio.frames import KERNELS, STRIDES, frame_count, geometry
from modalities.encoder import Encoded
from modalities.layout import Layout
from modalities.plugin import PluginEncoder, alike


class AudioPlugin(PluginEncoder):
    """Calls the module with waveforms (B, n) float at the rate of the task's prepare, of zero mean and unit variance.

    Clips of one length are computed together, so that no module has to know of padding; with ``lengths`` or ``mask``
    all at once, padded with zeros, which is faster where lengths differ. (A norm over time sees the padding all the
    same: that of wav2vec 2.0 base, for one, then gives short clips other features.)

    Args:
        module: gives (B, N, D), or (B, D) where it pools by itself.
        width, pool, method, output, weights: see :class:`modalities.plugin.PluginEncoder`.
        kernels, strides: of the convolutions that make N frames of n samples; the task's prepare refuses clips that
            are shorter than a frame. With ``lengths`` and ``mask`` they also say which frames are a clip's own.
        wave: name of the argument that takes the waveforms; None: the first.
        lengths: name of the argument that takes the samples of each clip, (B,) int64 (torchaudio: ``lengths``).
        mask: name of the argument that takes (B, n) int64, ones where a clip is (transformers: ``attention_mask``).

    Raises:
        InputError: the module cannot be called so, or gives something else.
    """

    modality: ClassVar[str] = "audio"

    def __init__(
        self,
        module: nn.Module,
        width: int,
        pool: str = "mean",
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        wave: str | None = None,
        lengths: str | None = None,
        mask: str | None = None,
        method: str | None = None,
        output: str | int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(module, width, pool, method, output, weights)
        if lengths is not None and mask is not None:
            raise InputError("lengths and mask say the same; give the one that the module takes")
        self.hop, self.receptive_field = geometry(kernels, strides)
        self.argument, self.lengths, self.mask = wave, lengths, mask
        with self.probe() as possible:
            if possible:
                samples = [self.receptive_field + frames * self.hop for frames in (9, 5)]
                room = sum(-(-n // self.hop) * self.hop for n in samples)
                self({"wave": torch.zeros(room, device=next(module.parameters()).device), "samples": samples})

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """What ``AudioPrepare.collate`` made -> (T, D), or (B, D) where the module pools."""
        samples = inputs["samples"]
        wave = inputs["wave"]
        # A recording is float32, weights need not be (trainer.precision).
        wave = wave.to(next((p.dtype for p in self.module.parameters() if p.is_floating_point()), wave.dtype))
        clips = _clips(wave, samples, self.hop)
        padded = self.lengths is not None or self.mask is not None
        found = self._padded(clips, samples) if padded else self._by_length(clips, samples)
        return Encoded(torch.cat(found), Layout([len(x) for x in found], wave.device))

    def _by_length(self, clips: list[Tensor], samples: Sequence[int]) -> list[Tensor]:
        found = list(clips)
        for places in alike(samples).values():
            x = self._called(torch.stack([clips[place] for place in places]))
            for place, features in zip(places, x, strict=True):
                found[place] = features
        return found

    def _padded(self, clips: list[Tensor], samples: Sequence[int]) -> list[Tensor]:
        waves = nn.utils.rnn.pad_sequence(clips, batch_first=True)
        counts = torch.tensor(samples).to(waves.device, non_blocking=True)
        if self.lengths is not None:
            x = self._called(waves, **{self.lengths: counts})
        else:
            there = torch.arange(waves.shape[1], device=waves.device) < counts.unsqueeze(1)
            x = self._called(waves, **{str(self.mask): there.long()})
        if x.shape[1] == 1:  # the module pools, or the longest clip has one frame
            return list(x)
        frames = [frame_count(n, self.hop, self.receptive_field) for n in samples]
        if max(frames) != x.shape[1]:
            raise InputError(
                f"{self.title} makes {x.shape[1]} frames of {max(samples)} samples, kernels and strides {max(frames)}; "
                "give those of the module"
            )
        return [features[:count] for features, count in zip(x, frames, strict=True)]

    def _called(self, waves: Tensor, **named: Tensor) -> Tensor:
        found = self.run(waves, **named) if self.argument is None else self.run(**{self.argument: waves}, **named)
        return self.sequences(found, len(waves))


def _clips(wave: Tensor, samples: Sequence[int], hop: int) -> list[Tensor]:
    """The clips of a run in which each is followed by zeros up to a multiple of ``hop``."""
    ends = accumulate(-(-n // hop) * hop for n in samples)
    begins = [0, *ends][: len(samples)]
    return [wave[begin : begin + n] for begin, n in zip(begins, samples, strict=True)]
