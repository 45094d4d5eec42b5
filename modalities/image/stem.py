"""A convolutional stem in place of large patches (Xiao et al. 2021, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvStem(nn.Module):
    """Convolutions of 3 x 3 with stride 2, each followed by a norm and GELU, and a projection.

    Small pictures in small numbers teach it far more in a minute than they teach patches, which know nothing of
    neighbouring pixels. Where the paper has batch norm, which couples pictures, the norm is over a picture's own
    features.

    Args:
        channels: of each convolution; n of them make a position of 2**n x 2**n pixels.
        width: D, of what comes out.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        inputs = (3, *channels[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            for before, after in zip(inputs, channels, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, after) for after in channels)
        self.projection = nn.Linear(channels[-1], width)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, N, D), positions row by row."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nn.functional.gelu(norm(conv(x)))
        return self.projection(x.flatten(2).transpose(1, 2))
