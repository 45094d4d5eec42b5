"""The convolutional front end of wav2vec 2.0, on channels-last rows: T frames, C channels, k taps, stride s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.audio.clip_norm import normed_conv
from modalities.audio.frames import KERNELS, STRIDES, frame_count, geometry
from modalities.first_order import first_order

NORMS = ("layer", "group")


class ConvFrontend(nn.Module):
    """Strided convolutions over a flat run of clips (section 2 and 4.2 of Baevski et al. 2020).

    Each layer is a convolution, a norm and GELU. Clips begin on multiples of :attr:`hop`, so a clip's rows are the same
    alone and among others, except those that straddle its end, which the caller drops.

    Args:
        channels: C of every layer.
        kernels: k of each layer, at least its stride.
        strides: s of each layer.
        norm: ``layer``, a LayerNorm over the channels of a frame in every layer (the large model), or ``group``, a norm
            of each channel over the frames of a clip in the first layer alone (the base model).
        bias: whether the convolutions have one; that in front of a norm over frames never has, it would be taken away.

    Attributes:
        hop: samples between two frames.
        receptive_field: samples that a frame sees.

    Raises:
        InputError: ``kernels`` and ``strides`` do not fit, or ``norm`` is unknown.
    """

    def __init__(
        self,
        channels: int,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        norm: str = "layer",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise InputError(f"front-end norm '{norm}' is unknown; choices: {', '.join(NORMS)}")
        self.channels = channels
        self.hop, self.receptive_field = geometry(kernels, strides)
        inputs = (1, *(channels for _ in kernels[1:]))
        biases = (bias and norm == "layer", *(bias for _ in kernels[1:]))
        shapes = zip(inputs, kernels, strides, biases, strict=True)
        self.convs = nn.ModuleList(RowConv(c, channels, k, s, b) for c, k, s, b in shapes)
        self.norms = nn.ModuleList(
            [nn.GroupNorm(channels, channels)] if norm == "group" else [nn.LayerNorm(channels) for _ in kernels]
        )

    def forward(self, wave: Tensor, samples: Sequence[int] | None = None) -> Tensor:
        """(S,) -> (S / hop, C); S is a multiple of ``hop``, and zeros stand beyond the end.

        Args:
            wave: clips end to end, each with zeros up to a multiple of ``hop``.
            samples: length of each clip without its zeros, which ``norm="group"`` needs; None: one clip without any.
        """
        wave = wave.to(next(self.parameters()).dtype)  # a recording is float32, whatever the weights are
        x, norms = wave.unsqueeze(1), list(self.norms)
        if isinstance(norms[0], nn.GroupNorm):
            x = F.gelu(self._normed_first(wave, [len(wave)] if samples is None else samples, norms[0]))
            for conv in list(self.convs)[1:]:
                x = F.gelu(conv(x))
            return x
        for conv, norm in zip(self.convs, norms, strict=True):
            x = F.gelu(norm(conv(x)))
        return x

    def _normed_first(self, wave: Tensor, samples: Sequence[int], norm: nn.GroupNorm) -> Tensor:
        conv = self.convs[0]
        assert isinstance(conv, RowConv)
        valid = [(n - conv.kernel) // conv.stride + 1 for n in samples]
        rows = [-(-n // self.hop) * (self.hop // conv.stride) for n in samples]
        weight = conv.weight.squeeze(1)
        return normed_conv(conv.taps(wave), weight, norm.weight, norm.bias, norm.eps, valid, rows)

    def frames(self, samples: int) -> int:
        """Number of frames that lie inside a clip of ``samples``."""
        return frame_count(samples, self.hop, self.receptive_field)


class RowConv(nn.Module):
    """A convolution over rows as matrix products; (T, C_in) -> (T / s, C_out), zeros beyond the end.

    ``weight`` is (C_out, C_in, k) as in ``torch.nn.Conv1d``, so that published weights fit.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(T, C_in) -> (T / s, C_out); T is a multiple of the stride."""
        if x.shape[1] == 1:
            # The taps of the waveform are few enough to be copied out, and one product then does.
            return F.linear(self.taps(x.squeeze(1)), self.weight.squeeze(1), self.bias)
        matrix = self.weight.permute(2, 1, 0).flatten(0, 1)
        bias: Tensor | None = self.bias
        if torch.is_autocast_enabled(x.device.type):
            # Autocast does not look into a function with its own backward.
            dtype = torch.get_autocast_dtype(x.device.type)
            x, matrix, bias = x.to(dtype), matrix.to(dtype), None if bias is None else bias.to(dtype)
        return _Shifted.apply(x.reshape(len(x) // self.stride, -1), matrix, bias, x.shape[1] * self.stride)

    def taps(self, wave: Tensor) -> Tensor:
        """(S,) -> (S / s, k): what each row sees of a waveform."""
        return F.pad(wave, (0, self.kernel - self.stride)).unfold(0, self.kernel, self.stride)


class _Shifted(torch.autograd.Function):
    """Sum over q of ``rows[i + q] @ matrix[q * width : (q + 1) * width]``, rows of ``width`` = s * C_in features.

    The last part may be narrower than a row. Accumulating in place, forwards and backwards, is what autograd cannot do
    on its own without a copy of the activations for each part; they are the largest tensors of the whole model.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, bias: Tensor | None, width: int) -> Tensor:
        ctx.save_for_backward(rows, matrix)
        ctx.width, ctx.bias = width, bias is not None
        first = matrix[:width]
        out = rows @ first if bias is None else torch.addmm(bias, rows, first)
        for q, part in enumerate(matrix.split(width)[1:], 1):
            out[: len(rows) - q].addmm_(rows[q:, : len(part)], part)
        return out

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        rows, matrix = ctx.saved_tensors
        parts = matrix.split(ctx.width)
        to_rows, to_matrix = grad @ parts[0].t(), torch.empty_like(matrix)
        places = to_matrix.split(ctx.width)
        torch.mm(rows.t(), grad, out=places[0])
        for q, part in enumerate(parts[1:], 1):
            early = grad[: len(rows) - q]
            to_rows[q:, : len(part)].addmm_(early, part.t())
            torch.mm(rows[q:, : len(part)].t(), early, out=places[q])
        return to_rows, to_matrix, grad.sum(0) if ctx.bias else None, None
