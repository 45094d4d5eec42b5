"""Convolutional positions of wav2vec 2.0 (section 2) on packed rows: T rows, D features, g groups, k taps.

With 128 taps this is as dear as a transformer block, and as a convolution far from the speed of a matrix product. It is
computed by frequencies instead (overlap-save): the rows are cut into overlapping segments of N, transformed, multiplied
frequency by frequency and transformed back, all of it as real matrix products. For the base model that is a third of
the arithmetic, most of it the transform of the weights, which does not grow with the number of rows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from modalities.layout import Layout


class ConvPositions(nn.Module):
    """A grouped convolution with weight norm and GELU; what it gives is added to the input of the trunk.

    A row sees ``kernel // 2`` rows before it and ``kernel - 1 - kernel // 2`` behind it, zeros beyond its clip: what
    ``torch.nn.Conv1d`` with padding gives for each clip alone.

    Args:
        width: D.
        kernel: k.
        groups: g; divides ``width``.

    Attributes:
        direction: (D, D / g, k), the weight up to its scale.
        gain: (1, 1, k), the norm of the weight at each tap (weight norm over the other two dimensions, as fairseq).

    Raises:
        InputError: ``groups`` does not divide ``width``, or ``kernel`` is below 2.
    """

    def __init__(self, width: int, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        if groups < 1 or width % groups:
            raise InputError(f"position_groups={groups} does not divide width={width}")
        if kernel < 2:
            raise InputError(f"position_kernel={kernel} sees no neighbour; use at least 2")
        self.kernel, self.groups = kernel, groups
        self.direction = nn.Parameter(torch.empty(width, width // groups, kernel))
        nn.init.normal_(self.direction, std=2 * (kernel * width) ** -0.5)  # fairseq
        self.gain = nn.Parameter(_norms(self.direction.detach()))
        self.bias = nn.Parameter(torch.zeros(width))
        self.window = 2 * -(-3 * kernel // 4)  # N, even; longer ones cost more for weights, shorter ones for rows
        self.analysis: Tensor
        self.synthesis: Tensor
        analysis, synthesis = transforms(self.window, self.window - kernel + 1)
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(T, D) -> (T, D); float32 under autocast as well, eight bits are too few for frequencies."""
        before = self.kernel // 2
        # Zeros between clips, as many as a row can see. Lengths are known on the host, rows on the device.
        rows = torch.arange(len(x), device=x.device) + before * (layout.sequence + 1)
        step = self.window - self.kernel + 1
        segments = -(-(len(x) + before * len(layout)) // step)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.bias.dtype)
            spread = wide.new_zeros(segments * step + self.kernel - 1, x.shape[1]).index_copy(0, rows, wide)
            found = self._convolve(spread.unfold(0, self.window, step), segments)
            return F.gelu(found[rows - before] + self.bias).to(x.dtype)

    def _convolve(self, parts: Tensor, segments: int) -> Tensor:
        """(S, D, N) overlapping segments -> (S * (N - k + 1), D) rows."""
        half, group = self.window // 2 + 1, self.direction.shape[1]
        x = torch.matmul(self.analysis, parts.transpose(1, 2)).view(segments, 2, half, self.groups, group)
        real, imaginary = x.permute(1, 2, 3, 0, 4).reshape(2, half * self.groups, segments, group)
        # The scale of weight norm is one number a tap: it goes to the small matrix, not to the weights.
        taps = self.analysis[:, : self.kernel] * (self.gain / _norms(self.direction)).flatten()
        weight = (taps @ self.direction.flatten(0, 1).t()).view(2, half * self.groups, group, group).transpose(2, 3)
        # A convolution of networks is a correlation: the weight's conjugate.
        product = torch.stack(
            (
                torch.baddbmm(torch.bmm(real, weight[0]), imaginary, weight[1]),
                torch.baddbmm(torch.bmm(imaginary, weight[0]), real, weight[1], alpha=-1),
            )
        )
        product = product.view(2, half, self.groups, segments, group).permute(3, 0, 1, 2, 4)
        return torch.matmul(self.synthesis, product.reshape(segments, 2 * half, -1)).flatten(0, 1)


def transforms(window: int, kept: int) -> tuple[Tensor, Tensor]:
    """The real Fourier transform of ``window`` (even) numbers as a matrix, and its inverse for the first ``kept``.

    Returns:
        (window + 2, window) and (kept, window + 2): the real parts of all frequencies, then the imaginary ones.
    """
    frequency, place = torch.arange(window // 2 + 1, dtype=torch.float64), torch.arange(window, dtype=torch.float64)
    angle = 2 * math.pi / window * frequency.unsqueeze(1) * place
    analysis = torch.cat((angle.cos(), -angle.sin()))
    twice = torch.full_like(frequency, 2 / window)  # for the conjugate frequency, which is not computed
    twice[0] = twice[-1] = 1 / window
    synthesis = analysis[:, :kept] * twice.repeat(2).unsqueeze(1)
    return analysis.to(torch.get_default_dtype()), synthesis.t().contiguous().to(torch.get_default_dtype())


def _norms(weight: Tensor) -> Tensor:
    """(D, D / g, k) -> (1, 1, k)."""
    return torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)
