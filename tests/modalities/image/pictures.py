"""Pictures that tests make."""

import io

import numpy as np
import torch
from PIL import Image

from data.sample import Sample


def encoded(array, mode=None, extension="png", **options):
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, extension.upper(), **options)
    return file.getvalue()


def gradient(height=30, width=40):
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1).astype(np.uint8)


def sample(raw, extension="png"):
    return Sample("s.tar", "k", {extension: raw})


def photograph(height, width, extension="jpeg", seed=0, **options):
    """Clouds at every scale, as in photographs, and edges."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2
    frequency[0, 0] = np.inf
    found = []
    for _ in range(3):
        noise = rng.standard_normal((2, *frequency.shape)) / np.sqrt(frequency)
        clouds = np.fft.irfft2(noise[0] + 1j * noise[1], (height, width))
        found.append(128 + 40 * clouds / clouds.std())
    array = np.stack(found, -1)
    array[height // 3 : height // 2, width // 4 : width // 2] += 60
    return encoded(array.clip(0, 255).astype(np.uint8), None, extension, **options)


def whole(raw):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(raw)).convert("RGB"))).permute(2, 0, 1)
