"""Pictures: bytes -> uint8 pixels of one size; normalisation happens on the device."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - registers WEBP
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from data.errors import InputError, SampleError
from data.loading.room import room
from data.sample import Sample
from modalities.prepare import Batch, Item
from modalities.view import SIDE, View

Box: TypeAlias = tuple[int, int, int, int]  # left, top, right and bottom in pixels, the latter two exclusive

EXTENSIONS = ("jpg", "jpeg", "png", "webp")
# What a file of these names may really be. Pillow knows formats that run other programs (EPS); they are not opened.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# What Pillow's readers raise on damaged bytes: they index, unpack and inflate what they find there.
DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(struct.error, zlib.error, MemoryError, RuntimeError),
)
RATIO = 4 / 3  # widest and, the other way round, narrowest crop (Szegedy et al. 2015)
TRIES = 10
# A JPEG decodes at 1/2, 1/4 or 1/8 scale for a fraction of the cost. With so many pixels for each that is asked for,
# the result is nearer to what the full scale gives than bilinear resizing is to bicubic.
MARGIN = 1.5
# Pillow cannot hand on its pixels without copying them. torchvision, of which some builds lack the decoder, can.
FAST_JPEG = hasattr(torch.ops.image, "decode_jpeg")
_PLACE = re.compile(r"^decode_jpeg, \S+:\d+, |\n.*", re.DOTALL)  # where in torchvision's source an error was found


class ImagePrepare:
    """Decodes a picture, crops and resizes it to ``image_size`` x ``image_size``.

    In training a random crop of ``scale`` of the area (Szegedy et al. 2015; CLIP, section 2.5, uses 0.9 to 1) and,
    where ``flip`` says so, a mirror image; on held-out data the centre.

    Args:
        image_size: side in pixels.
        scale: smallest and largest share of the area that a training crop covers.
        flip: probability of mirroring; 0 where captions say left and right.
        max_pixels: larger pictures are refused from their header, before they are decoded.
        min_side: pictures whose shorter side has fewer pixels are refused.
        max_bytes: larger files are refused before they are decoded.
        transforms: further torchvision transforms (``torchvision.transforms.v2``) of a training picture, from and to
            (3, image_size, image_size) uint8, after crop and mirroring.
    """

    modality: ClassVar[str] = "image"

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float] = (0.9, 1.0),
        flip: float = 0.0,
        max_pixels: int = 64_000_000,
        min_side: int = 1,
        max_bytes: int = 64_000_000,
        transforms: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> None:
        pair = isinstance(scale, list | tuple) and len(scale) == 2 and all(map(_share, scale))
        if not pair or not 0 < scale[0] <= scale[1]:
            raise InputError(f"scale={scale!r} is not two shares of the area, between 0 and 1 and in order")
        if not _share(flip):  # true is none: it would be taken for 1, and mirror every picture
            raise InputError(f"flip={flip!r} is no probability: 0 <= flip <= 1")
        self.image_size = image_size
        self.flip = flip
        self.max_pixels, self.min_side, self.max_bytes = max_pixels, min_side, max_bytes
        self.transforms = list(transforms or ())
        self._try_transforms()
        self.scale = (scale[0], scale[1])

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """A picture member."""
        return {"image": EXTENSIONS}

    def _try_transforms(self) -> None:
        before = torch.default_generator.get_state()
        found = torch.zeros(3, self.image_size, self.image_size, dtype=torch.uint8)
        shape = found.shape
        for transform in self.transforms:
            found = transform(found)
            if not isinstance(found, torch.Tensor) or found.dtype != torch.uint8 or found.shape != shape:
                made = (
                    f"{tuple(found.shape)} {found.dtype}" if isinstance(found, torch.Tensor) else type(found).__name__
                )
                raise InputError(
                    f"transforms: {type(transform).__name__} makes {made} of a picture; it must stay "
                    f"{tuple(shape)} uint8, as normalisation happens on the device"
                )
        torch.default_generator.set_state(before)

    def decode(self, raw: bytes, member: str = "", choose: Callable[[int, int], Box] | None = None) -> torch.Tensor:
        """(3, height, width) uint8: the box that ``choose(width, height)`` takes of the picture, by default all of it.

        A JPEG comes at a smaller scale where the box has pixels to spare; never below ``image_size``.

        Raises:
            SampleError: no picture, a damaged one, or one that is too large or too small.
        """
        try:
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                if image.width * image.height > self.max_pixels:
                    reason = f"picture of {image.width}x{image.height} pixels exceeds max_pixels={self.max_pixels}"
                    raise SampleError(reason, "bomb", member)
                if min(image.size) < self.min_side:
                    reason = f"picture of {image.width}x{image.height} pixels is smaller than min_side={self.min_side}"
                    raise SampleError(reason, "too_short", member)
                box = choose(*image.size) if choose else (0, 0, *image.size)
                if image.format == "JPEG":
                    return _of_jpeg(image, raw, box, min(box[2] - box[0], box[3] - box[1]) / self.image_size)
                return pixels_of(image, box)
        except UnidentifiedImageError:
            raise SampleError(f"not a picture of a known kind ({', '.join(FORMATS)})", "undecodable", member) from None
        except Image.DecompressionBombError as error:
            raise SampleError(str(error), "bomb", member) from None
        except DAMAGE as error:
            reason = _PLACE.sub("", str(error)) or type(error).__name__
            raise SampleError(f"undecodable picture: {reason}", "undecodable", member) from None

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """``{"pixels": (3, image_size, image_size) uint8}``."""
        extension, raw = sample.first(EXTENSIONS, "image", self.max_bytes)

        def choose(width: int, height: int) -> Box:
            return crop(width, height, self.scale, rng) if training else centre(width, height)

        pixels = self.decode(raw, extension, choose)
        pixels = functional.resize(pixels, [self.image_size, self.image_size], antialias=True)
        if training and self.flip and rng.random() < self.flip:
            pixels = pixels.flip(-1)
        if training and self.transforms:
            # torchvision draws from the global state alone. torch.manual_seed would note down the call stack for a GPU
            # that has not been used yet, which costs more than the crop.
            torch.default_generator.manual_seed(int(rng.integers(2**62)))
            for transform in self.transforms:
                pixels = transform(pixels)
        return {"pixels": pixels.contiguous()}

    def view(self, item: Item) -> View:
        """The picture, smaller."""
        pixels = functional.resize(item["pixels"], [SIDE, SIDE], antialias=True)
        return {"picture": pixels.permute(1, 2, 0).numpy()}

    def collate(self, items: list[Item]) -> Batch:
        """``{"pixels": (B, 3, image_size, image_size) uint8, "size": B}``."""
        return {"pixels": _stacked([item["pixels"] for item in items]), "size": len(items)}


def _stacked(parts: list[torch.Tensor]) -> torch.Tensor:
    """(B, ...): B tensors of one shape, in a loader where they need not be copied once more to be handed on."""
    now, first = room(), parts[0]
    if now is None:
        return torch.stack(parts)
    memory = torch.from_numpy(now.take(len(parts) * first.nbytes))
    return torch.stack(parts, out=memory.view(first.dtype).view(len(parts), *first.shape))


def crop(width: int, height: int, scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """A random box, distributed as torchvision's ``RandomResizedCrop`` has it.

    Its share of the area is uniform in ``scale``, its width to height log-uniform from 3:4 to 4:3; where none fits in
    ten tries, the largest in the middle that is not narrower or wider than that.
    """
    for _ in range(TRIES):
        share, ratio, x, y = rng.random(4).tolist()
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        aspect = RATIO ** (2 * ratio - 1)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _middle(width, height, min(width, round(height * RATIO)), min(height, round(width * RATIO)))


def centre(width: int, height: int) -> Box:
    """The largest square in the middle."""
    return _middle(width, height, min(width, height), min(width, height))


def _middle(width: int, height: int, w: int, h: int) -> Box:
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def pixels_of(image: Image.Image, box: Box) -> torch.Tensor:
    """(3, height, width) uint8 pixels of ``box``, which is all that is converted and copied.

    What is transparent lies on white, as a page or a browser shows it: without it a drawing in black on nothing is a
    black square.
    """
    part = image.crop(box)
    if part.mode.startswith("I"):  # 16 bits of grey, which convert() would clip instead of scale
        grey = np.rint(np.asarray(part) / 257).astype(np.uint8)
        return torch.from_numpy(grey).expand(3, -1, -1)
    if part.has_transparency_data:
        part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part.convert("RGBA"))
    return torch.from_numpy(np.array(part if part.mode == "RGB" else part.convert("RGB"))).permute(2, 0, 1)


def _of_jpeg(image: Image.Image, raw: bytes, box: Box, spare: float) -> torch.Tensor:
    """The same at the smallest scale that leaves ``MARGIN`` of the ``spare`` pixels for each that is asked for."""
    shrink = max(n for n in (1, 2, 4, 8) if n == 1 or spare >= n * MARGIN)
    if shrink > 1:
        whole = image.width
        drafted = image.draft("RGB", (image.width // shrink, image.height // shrink))
        if drafted is not None:
            box = tuple(round(edge * drafted[1][2] / whole) for edge in box)  # type: ignore[assignment]
    elif FAST_JPEG and image.mode in ("RGB", "L"):
        pixels = decode_jpeg(torch.frombuffer(bytearray(raw), dtype=torch.uint8), ImageReadMode.RGB)
        if pixels.shape != (3, image.height, image.width):
            raise ValueError(f"{pixels.shape[2]}x{pixels.shape[1]} pixels, not {image.width}x{image.height}")
        return pixels[:, box[1] : box[3], box[0] : box[2]]
    return pixels_of(image, box)


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1
