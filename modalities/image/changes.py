"""Changes of a picture as its encoder gets it, (3, H, W) uint8: for behavioural tests.

Each is a class whose instances take (pixels, generator) and give changed pixels of the same size, None where there is
nothing to change.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from data.errors import InputError


class Flip:
    """The mirror image."""

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) mirrored."""
        return pixels.flip(-1)


class Brightness:
    """Lighter or darker.

    Args:
        factor: of each value; what comes out above white is white.
    """

    def __init__(self, factor: float) -> None:
        self.factor = _above("factor", factor)

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) at another brightness."""
        return functional.adjust_brightness(pixels, self.factor)


class Crop:
    """A part of the picture, at a place of its own, enlarged to the whole size.

    Args:
        share: of the area.
    """

    def __init__(self, share: float = 0.9) -> None:
        if not 0 < share < 1:
            raise InputError(f"share={share} is not between 0 and 1")
        self.share = share

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) of what is left."""
        height, width = pixels.shape[1:]
        h, w = (max(1, round(side * math.sqrt(self.share))) for side in (height, width))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        part = pixels[:, top : top + h, left : left + w]
        return functional.resize(part, [height, width], antialias=True)


class Jpeg:
    """Stored as JPEG and read again.

    Args:
        quality: from 1 to 95.
    """

    def __init__(self, quality: int = 50) -> None:
        if not 1 <= quality <= 95:
            raise InputError(f"quality={quality} is not between 1 and 95")
        self.quality = quality

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) with what JPEG leaves."""
        file = io.BytesIO()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=self.quality)
        return torch.from_numpy(np.array(Image.open(file, formats=("JPEG",)))).permute(2, 0, 1).contiguous()


class Blur:
    """Out of focus.

    Args:
        sigma: of the Gaussian, in pixels of what the encoder gets.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        self.sigma = _above("sigma", sigma)

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W), blurred."""
        reach = min(2 * math.ceil(3 * self.sigma) + 1, 2 * min(pixels.shape[1:]) - 1)
        return functional.gaussian_blur(pixels, [reach, reach], [self.sigma, self.sigma])


class Grey:
    """Without colours."""

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor | None:
        """(3, H, W) of one grey; None for a picture that has no colours."""
        if torch.equal(pixels, pixels[:1].expand_as(pixels)):
            return None
        return functional.rgb_to_grayscale(pixels, 3)


class Noise:
    """Each value a little off.

    Args:
        std: standard deviation, of 0 to 255.
    """

    def __init__(self, std: float = 10.0) -> None:
        self.std = _above("std", std)

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """(3, H, W) with noise."""
        noisy = pixels.numpy() + self.std * rng.standard_normal(tuple(pixels.shape))
        return torch.from_numpy(np.rint(noisy).clip(0, 255).astype(np.uint8))


class ShuffleTiles:
    """Cut into tiles that change places: the same colours, another picture.

    Args:
        tiles: along each side.
    """

    def __init__(self, tiles: int = 4) -> None:
        if tiles < 2:
            raise InputError(f"tiles={tiles} is not 2 or more")
        self.tiles = tiles

    def __call__(self, pixels: Tensor, rng: np.random.Generator) -> Tensor | None:
        """(3, H, W) of the same tiles; None for a picture of fewer pixels than tiles."""
        n, (h, w) = self.tiles, (side // self.tiles for side in pixels.shape[1:])
        if not h or not w:
            return None
        tiles = pixels[:, : n * h, : n * w].reshape(3, n, h, n, w).permute(1, 3, 0, 2, 4).reshape(n * n, 3, h, w)
        tiles = tiles[torch.from_numpy(rng.permutation(n * n))]
        shuffled = pixels.clone()
        shuffled[:, : n * h, : n * w] = tiles.reshape(n, n, 3, h, w).permute(2, 0, 3, 1, 4).reshape(3, n * h, n * w)
        return shuffled


CHANGES = {
    "flip": Flip,
    "brightness": Brightness,
    "crop": Crop,
    "jpeg": Jpeg,
    "blur": Blur,
    "grey": Grey,
    "noise": Noise,
    "shuffle_tiles": ShuffleTiles,
}
"""Name in a suite -> class."""


def _above(name: str, value: float) -> float:
    if value <= 0:
        raise InputError(f"{name}={value} is not above 0")
    return value
