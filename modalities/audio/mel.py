"""A front end on log-mel spectra (Whisper, Radford et al. 2023, section 2.2). T frames, C channels, B bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.audio.frames import frame_count, geometry
from modalities.audio.frontend import RowConv
from modalities.audio.quantizer import full

FLOOR = 1e-4
"""Power, in that of white noise of unit variance, below which a band counts as silent: 40 dB less."""


class MelFrontend(nn.Module):
    """A log-mel spectrum each ``strides[0]`` samples, and convolutions over its frames.

    The spectrum is fixed: what a network would have to learn of pitch and loudness from the waveform is given, which
    hours of sound do not need and minutes do. The convolutions are those of
    :class:`modalities.audio.frontend.ConvFrontend`: clips lie end to end on multiples of :attr:`hop`, each layer has a
    LayerNorm over channels and GELU.

    Args:
        bands: B, from 0 Hz to half the sample rate, evenly spaced in mel.
        channels: C of the convolutions.
        kernels: samples that a spectrum sees, then k of each convolution, at least its stride.
        strides: samples between two spectra, then s of each convolution.
        sample_rate: in Hz.

    Attributes:
        hop: samples between two frames.
        receptive_field: samples that a frame sees.

    Raises:
        InputError: ``kernels`` and ``strides`` do not fit, there is no convolution, or a band would be empty.
    """

    def __init__(
        self, bands: int, channels: int, kernels: Sequence[int], strides: Sequence[int], sample_rate: int = 16_000
    ) -> None:
        super().__init__()
        if len(kernels) < 2:
            raise InputError(f"kernels={list(kernels)}: beside the spectrum's, a convolution needs one")
        self.channels = channels
        self.hop, self.receptive_field = geometry(kernels, strides)
        self.kernel, self.stride = kernels[0], strides[0]
        self.window: Tensor
        self.bank: Tensor
        self.register_buffer("window", torch.hann_window(self.kernel), persistent=False)
        self.register_buffer("bank", bank(bands, self.kernel, sample_rate), persistent=False)
        inputs = (bands, *(channels for _ in kernels[2:]))
        shapes = zip(inputs, kernels[1:], strides[1:], strict=True)
        self.convs = nn.ModuleList(RowConv(before, channels, k, s, bias=True) for before, k, s in shapes)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in self.convs)

    def forward(self, wave: Tensor, samples: Sequence[int] | None = None) -> Tensor:
        """(S,) -> (S / hop, C); S is a multiple of ``hop``, and zeros stand beyond the end."""
        x = self.spectra(wave).to(next(self.parameters()).dtype)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        return x

    def spectra(self, wave: Tensor) -> Tensor:
        """(S,) -> (S / strides[0], B) float32 at least: log power, about -1 for silence and 1 for noise."""
        with torch.autocast(wave.device.type, enabled=False):  # powers span more than half precision does
            wave, window, bank = (full(x) for x in (wave, self.window, self.bank))
            rows = F.pad(wave, (0, self.kernel - self.stride)).unfold(0, self.kernel, self.stride)
            found = torch.fft.rfft(rows * window)
            power = (found.real.square() + found.imag.square()) / window.square().sum()
            return ((power.to(bank.dtype) @ bank + FLOOR).log() + 4) / 4

    def frames(self, samples: int) -> int:
        """Number of frames that lie inside a clip of ``samples``."""
        return frame_count(samples, self.hop, self.receptive_field)


def bank(bands: int, kernel: int, sample_rate: int) -> Tensor:
    """(kernel // 2 + 1, B): triangles evenly spaced in mel (2595 log10(1 + Hz / 700)), each of sum 1.

    Raises:
        InputError: a triangle lies between two bins of the spectrum.
    """
    top = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, bands + 2, dtype=torch.float64) * top / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, kernel // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0)
    empty = int((weights.sum(0) == 0).sum())
    if empty:
        raise InputError(f"mel_bands={bands} are too fine for kernels[0]={kernel} samples: {empty} of them are empty")
    return (weights / weights.sum(0)).float()
