"""Pictures: bytes -> uint8 pixels of one size; normalisation happens on the device."""

from __future__ import annotations

import io
import math
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - registers WEBP
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.prepare import Batch, Item

EXTENSIONS = ("jpg", "jpeg", "png", "webp")
# What a file of these names may really be. Pillow knows formats that run other programs (EPS); they are not opened.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


class ImagePrepare:
    """Decodes a picture, crops and resizes it to ``image_size`` x ``image_size``.

    In training a random crop of ``scale`` of the area (Szegedy et al. 2015; CLIP, section 2.5, uses 0.9 to 1) and,
    where ``flip`` says so, a mirror image; on held-out data the centre.

    Args:
        image_size: side in pixels.
        scale: smallest and largest share of the area that a training crop covers.
        flip: probability of mirroring; 0 where captions say left and right.
        max_pixels: larger pictures are refused from their header, before they are decoded.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float] = (0.9, 1.0),
        flip: float = 0.0,
        max_pixels: int = 64_000_000,
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(f"scale={list(scale)} is not two shares of the area, between 0 and 1 and in order")
        self.image_size = image_size
        self.flip = flip
        self.max_pixels = max_pixels
        self._crop = v2.RandomResizedCrop(image_size, scale=tuple(scale), antialias=True)
        # So large a picture's smallest crop has image_size pixels even on its short side (torchvision: 3:4 to 4:3).
        self._enough = math.ceil(image_size * max(2.0, math.sqrt(4 / 3 / scale[0])))

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A picture member."""
        return {"image": EXTENSIONS}

    def decode(self, raw: bytes) -> torch.Tensor:
        """(3, height, width) uint8.

        Raises:
            SampleError: no picture, a damaged one or one of more than ``max_pixels``.
        """
        try:
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                if image.width * image.height > self.max_pixels:
                    raise SampleError(
                        f"picture of {image.width}x{image.height} pixels exceeds max_pixels={self.max_pixels}"
                    )
                # A JPEG decodes at 1/2, 1/4 or 1/8 scale for a fraction of the cost; never below the size asked for.
                image.draft("RGB", (self._enough, self._enough))
                if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip instead of scale
                    grey = np.rint(np.asarray(image) / 257).astype(np.uint8)
                    pixels = np.repeat(grey[..., None], 3, axis=2)
                else:
                    pixels = np.array(image.convert("RGB"))
        except UnidentifiedImageError:
            raise SampleError(f"not a picture of a known kind ({', '.join(FORMATS)})") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise SampleError(f"undecodable picture: {error}") from None
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"pixels": (3, image_size, image_size) uint8}``."""
        pixels = self.decode(sample.first(EXTENSIONS, "image")[1])
        if not training:
            side = [self.image_size, self.image_size]
            pixels = transforms.center_crop(pixels, min(pixels.shape[1:]))  # type: ignore[arg-type]
            return {"pixels": transforms.resize(pixels, side, antialias=True).contiguous()}
        # torchvision draws from the global state alone. torch.manual_seed would note down the call stack for a GPU that
        # has not been used yet, which costs more than the crop.
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        pixels = self._crop(pixels)
        if self.flip and rng.random() < self.flip:
            pixels = transforms.horizontal_flip(pixels)
        return {"pixels": pixels.contiguous()}

    def collate(self, items: list[Item]) -> Batch:
        """``{"pixels": (B, 3, image_size, image_size) uint8, "size": B}``."""
        return {"pixels": torch.stack([item["pixels"] for item in items]), "size": len(items)}
