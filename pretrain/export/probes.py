"""Probe batches: the same inputs for an encoder here and a class of ``transformers``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from modalities.audio.encoder import AudioEncoder
from modalities.audio.prepare import AudioPrepare
from modalities.image.encoder import ImageEncoder
from modalities.layout import Layout

SEED = 20260101


def text(
    vocab_size: int, longest: int, end: int | None = None, start: int | None = None
) -> tuple[dict[str, Any], list[Tensor]]:
    """Five texts of random tokens of different lengths: our inputs, and the ids of each.

    Args:
        vocab_size: V.
        longest: tokens of the longest text.
        end: token that each ends with and that stands nowhere else.
        start: token that each begins with, as the tokenizer makes them; None: any.
    """
    draw = torch.Generator().manual_seed(SEED)
    lengths = sorted({max(2, longest * part // 8) for part in (1, 2, 3, 6, 8)})
    texts = [torch.randint(0, vocab_size, (length,), generator=draw) for length in lengths]
    if end is not None:
        for ids in texts:
            ids[ids == end] = (end + 1) % vocab_size
            ids[-1] = end
    if start is not None:
        for ids in texts:
            ids[0] = start
    return {"tokens": torch.cat(texts), "layout": Layout(lengths), "size": len(texts)}, texts


def padded(texts: list[Tensor]) -> dict[str, Tensor]:
    """The texts as a batch of ``transformers``, zeros behind their ends, with the mask that says so."""
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(texts, batch_first=True),
        "attention_mask": pad([torch.ones_like(ids) for ids in texts], batch_first=True),
    }


def rows(x: Tensor, texts: list[Tensor]) -> Tensor:
    """(B, N, D) -> (T, D): without what stands at padding."""
    return torch.cat([row[: len(ids)] for row, ids in zip(x, texts, strict=True)])


def pictures(encoder: ImageEncoder) -> tuple[dict[str, Any], Tensor]:
    """Three pictures of noise: our inputs, and ``pixel_values``."""
    draw = torch.Generator().manual_seed(SEED)
    side = encoder.image_size
    pixels = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=draw)
    return {"pixels": pixels, "size": 3}, (pixels.float() - encoder.mean) / encoder.spread


def sounds(encoder: AudioEncoder, kernels: list[int], strides: list[int]) -> tuple[dict[str, Any], list[Tensor]]:
    """Three clips of noise in which low frequencies dominate, as in speech: our inputs, and each clip's waveform."""
    rng = np.random.default_rng(SEED)
    clips = []
    for samples in (16000, 9601, 5043):
        wave = rng.standard_normal(samples).cumsum()
        clips.append({"wave": ((wave - wave.mean()) / wave.std()).astype(np.float32)})
    prepare = AudioPrepare(kernels=kernels, strides=strides)
    return prepare.collate(clips), [torch.from_numpy(clip["wave"]) for clip in clips]
