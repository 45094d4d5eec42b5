"""The image encoder: a vision transformer (Dosovitskiy et al. 2021, section 3.1). B pictures, N patches each."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.encoder import Encoded, Encoder
from modalities.layout import Layout
from modalities.transformer import Transformer

# Mean and spread of the pixels CLIP was trained on (open_clip's OPENAI_DATASET_MEAN and _STD).
MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(Encoder):
    """Square patches, learned positions, the transformer trunk.

    Args:
        image_size: side of a picture in pixels.
        patch_size: side of a patch; divides ``image_size``.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        pool: ``mean`` over patches; ``first`` adds a class token in front and takes it.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: str = "pre",
        pool: str = "mean",
    ) -> None:
        super().__init__(width, pool)
        if image_size % patch_size:
            raise InputError(f"patch_size={patch_size} does not divide image_size={image_size}")
        self.image_size, self.patch_size = image_size, patch_size
        patches = (image_size // patch_size) ** 2
        self.class_token = nn.Parameter(0.02 * torch.randn(width)) if pool == "first" else None
        self.patch_embedding = nn.Linear(3 * patch_size**2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(patches + (pool == "first"), width))
        self.trunk = Transformer(width, depth, heads, mlp_ratio, dropout, norm, rotary=False)
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", 255 * torch.tensor(SPREAD).view(3, 1, 1), persistent=False)

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"pixels": (B, 3, image_size, image_size) uint8}`` -> (B * N, D)."""
        x = self.patch_embedding(self.patches(inputs["pixels"]))
        if self.class_token is not None:
            x = torch.cat((self.class_token.expand(len(x), 1, -1), x), 1)
        x = x + self.positions
        layout = Layout([x.shape[1]] * x.shape[0], x.device)
        return Encoded(self.trunk(x.flatten(0, 1), layout), layout)

    def patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, N, 3 * patch_size**2) normalised float, patches row by row."""
        if pixels.shape[-1] != self.image_size or pixels.shape[-2] != self.image_size:
            raise InputError(f"pictures of {tuple(pixels.shape[-2:])} pixels do not fit image_size={self.image_size}")
        x = (pixels.to(self.mean.dtype) - self.mean) / self.spread
        p = self.patch_size
        return x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
