"""Any module that turns pictures into features as an image encoder: timm, ``transformers``, torchvision, an own one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.encoder import Encoded
from modalities.image.encoder import MEAN, SPREAD
from modalities.layout import Layout
from modalities.plugin import PluginEncoder


class ImagePlugin(PluginEncoder):
    """Calls the module with pictures (B, 3, image_size, image_size), float, less ``mean`` and divided by ``spread``.

    Args:
        module: gives (B, N, D), (B, D), or a map of features, (B, D, H, W) or (B, H, W, D), whose places are positions.
        image_size: side of a picture in pixels.
        width, pool, method, output, weights: see :class:`modalities.plugin.PluginEncoder`.
        pixels: name of the argument that takes the pictures; None: the first.
        mean, spread: of the pixels of each colour, from 0 to 1; CLIP's if not given. What weights were trained with.

    Raises:
        InputError: the module cannot be called so, or gives something else.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        module: nn.Module,
        image_size: int,
        width: int,
        pool: str = "mean",
        pixels: str | None = None,
        mean: Sequence[float] = MEAN,
        spread: Sequence[float] = SPREAD,
        method: str | None = None,
        output: str | int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(module, width, pool, method, output, weights)
        if len(mean) != 3 or len(spread) != 3 or min(spread) <= 0:
            raise InputError(f"mean={list(mean)} and spread={list(spread)} need three colours, the spread above 0")
        self.image_size, self.argument = image_size, pixels
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", 255 * torch.tensor(spread).view(3, 1, 1), persistent=False)
        with self.probe() as possible:
            if possible:
                device = next(self.module.parameters()).device
                self({"pixels": torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)})

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"pixels": (B, 3, image_size, image_size) uint8}`` -> (B * N, D)."""
        pixels = inputs["pixels"]
        if pixels.shape[-1] != self.image_size or pixels.shape[-2] != self.image_size:
            raise InputError(f"pictures of {tuple(pixels.shape[-2:])} pixels do not fit image_size={self.image_size}")
        x = (pixels.to(self.mean.dtype) - self.mean) / self.spread
        found = self.run(x) if self.argument is None else self.run(**{self.argument: x})
        if found.ndim == 4:
            found = found.flatten(2).transpose(1, 2) if found.shape[1] == self.width else found.flatten(1, 2)
        x = self.sequences(found, len(pixels))
        return Encoded(x.flatten(0, 1), Layout([x.shape[1]] * len(x), x.device))
