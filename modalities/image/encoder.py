"""The image encoder: a vision transformer (Dosovitskiy et al. 2021, section 3.1). B pictures, N patches each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from data.errors import InputError
from modalities.encoder import Encoded, Encoder
from modalities.image.stem import ConvStem
from modalities.layout import Layout
from modalities.norms import norm_of
from modalities.transformer import trunk_of

# Mean and spread of the pixels CLIP was trained on (open_clip's OPENAI_DATASET_MEAN and _STD).
MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(Encoder):
    """Square patches, learned positions, the transformer trunk.

    CLIP's tower is ``pool="first", patch_bias=False, pooled_norm=True`` with
    ``trunk={"activation": "quick_gelu", "input_norm": True}`` (conf/encoder).

    Args:
        image_size: side of a picture in pixels.
        patch_size: side of a patch; divides ``image_size``.
        width, depth, heads, mlp_ratio, dropout, norm: see :class:`modalities.transformer.Transformer`.
        pool: ``mean`` over patches, ``first`` for the class token.
        class_token: whether one stands in front of the patches (None: where ``pool`` is ``first``).
        patch_bias: whether the embedding of patches has a bias.
        pooled_norm: the last norm is of the pooled vector instead of each position, as in CLIP and, with ``mean``,
            timm (``fc_norm``). With ``first`` the vector is the same, but the positions come without a norm.
        mean, spread: of the pixels of each colour, from 0 to 1; CLIP's if not given.
        stem: channels of convolutions that make the positions instead of patches, see
            :class:`modalities.image.stem.ConvStem`; so many that ``patch_size`` is 2 to their number.
        trunk: further settings of the trunk.

    Raises:
        InputError: sizes that do not fit, or settings that contradict each other.
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
        class_token: bool | None = None,
        patch_bias: bool = True,
        pooled_norm: bool = False,
        mean: Sequence[float] = MEAN,
        spread: Sequence[float] = SPREAD,
        stem: Sequence[int] = (),
        trunk: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(width, pool)
        if image_size % patch_size:
            raise InputError(f"patch_size={patch_size} does not divide image_size={image_size}")
        if class_token is None:
            class_token = pool == "first"
        if pool == "first" and not class_token:
            raise InputError("pool=first takes the class token; set class_token=true or pool=mean")
        if pooled_norm and norm != "pre":
            raise InputError(f"pooled_norm=true moves the norm behind the trunk, which norm={norm} has none of")
        if stem and patch_size != 2 ** len(stem):
            raise InputError(
                f"stem={list(stem)} makes positions of {2 ** len(stem)} pixels; give patch_size={2 ** len(stem)}"
            )
        if stem and not patch_bias:
            raise InputError("patch_bias=false is for patches; with stem there are none")
        if len(mean) != 3 or len(spread) != 3 or min(spread) <= 0:
            raise InputError(f"mean={list(mean)} and spread={list(spread)} need three colours, the spread above 0")
        self.image_size, self.patch_size = image_size, patch_size
        patches = (image_size // patch_size) ** 2
        settings = dict(trunk or {})
        std = width**-0.5 if settings.get("initialisation") == "clip" else 0.02
        self.class_token = nn.Parameter(std * torch.randn(width)) if class_token else None
        self.stem = ConvStem(stem, width) if stem else None
        self.patch_embedding = None if stem else nn.Linear(3 * patch_size**2, width, bias=patch_bias)
        self.positions = nn.Parameter(std * torch.randn(patches + class_token, width))
        if pooled_norm:
            settings.setdefault("final_norm", False)
        self.trunk = trunk_of(
            settings,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            norm=norm,
            causal=False,
            rotary=False,
        )
        kind = {name: settings[f"norm_{name}"] for name in ("kind", "eps", "bias") if f"norm_{name}" in settings}
        self.pooled_norm = norm_of(**{"kind": "layer", "width": width, **kind}) if pooled_norm else None
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", 255 * torch.tensor(spread).view(3, 1, 1), persistent=False)

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """``{"pixels": (B, 3, image_size, image_size) uint8}`` -> (B * N, D)."""
        x = self.places(inputs["pixels"])
        if self.class_token is not None:
            x = torch.cat((self.class_token.expand(len(x), 1, -1), x), 1)
        x = x + self.positions
        layout = Layout([x.shape[1]] * x.shape[0], x.device)
        return Encoded(self.trunk(x.flatten(0, 1), layout), layout)

    def pooled(self, inputs: dict[str, Any], pool: str | None = None) -> Tensor:
        """(B, D): the class token, or the mean or the maximum over patches, which leaves the class token out."""
        tokens, layout = self(inputs)
        pool = pool or self.pool
        if pool in ("mean", "max") and self.class_token is not None:
            patches = tokens.unflatten(0, (len(layout), -1))[:, 1:]
            pooled = patches.mean(1) if pool == "mean" else patches.amax(1)
        else:
            pooled = getattr(layout, pool)(tokens)
        return pooled if self.pooled_norm is None else self.pooled_norm(pooled)

    def places(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, N, D), row by row, before positions are added."""
        if self.stem is not None:
            return self.stem(self._normalised(pixels))
        assert self.patch_embedding is not None
        return self.patch_embedding(self.patches(pixels))

    def patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, N, 3 * patch_size**2) normalised float, patches row by row."""
        x, p = self._normalised(pixels), self.patch_size
        return x.unfold(2, p, p).unfold(3, p, p).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def _normalised(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-1] != self.image_size or pixels.shape[-2] != self.image_size:
            raise InputError(f"pictures of {tuple(pixels.shape[-2:])} pixels do not fit image_size={self.image_size}")
        return (pixels.to(self.mean.dtype) - self.mean) / self.spread
