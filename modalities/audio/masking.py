"""Masks and negatives of wav2vec 2.0 (Baevski et al. 2020). n frames of a clip, m of them masked, K negatives each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from modalities.audio.frames import KERNELS, STRIDES
from modalities.audio.prepare import AudioPrepare
from modalities.layout import Layout
from modalities.prepare import Batch, Item, lengths_of

SHORTEST = 3
"""Frames that a clip needs: two masked ones, each the negative of the other, and one that is not."""


class MaskedAudioPrepare(AudioPrepare):
    """Clips with span masks, with negatives for each masked frame and with a seed for the quantizer's noise.

    Args:
        mask_prob: share of the frames that spans would cover if none overlapped (section 3.1 and 4.2; fairseq):
            ``mask_prob * n / mask_length`` spans, rounded up or down at random, begin at different frames. The paper's
            p = 0.065 with M = 10 is ``mask_prob=0.65``; overlaps leave about half of all frames masked.
        mask_length: frames in a span; at most n - 1.
        num_negatives: K; drawn with replacement from the other masked frames of the same clip (section 3.2).
        sample_rate, max_seconds, min_seconds, kernels, strides, sample_rates, max_recording_s, max_bytes: see
            :class:`AudioPrepare`.
    """

    plain: ClassVar[type] = AudioPrepare

    def __init__(
        self,
        sample_rate: int = 16000,
        max_seconds: float = 15.6,
        min_seconds: float = 0.25,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
        mask_prob: float = 0.65,
        mask_length: int = 10,
        num_negatives: int = 100,
        sample_rates: Sequence[int] | None = None,
        max_recording_s: float = 14_400.0,
        max_bytes: int = 500_000_000,
    ) -> None:
        super().__init__(
            sample_rate, max_seconds, min_seconds, kernels, strides, sample_rates, max_recording_s, max_bytes
        )
        if not 0 < mask_prob <= 1:
            raise InputError(f"mask_prob={mask_prob} is not between 0 and 1")
        if mask_length < 2:
            raise InputError(f"mask_length={mask_length} is too short; use at least 2")
        if num_negatives < 1:
            raise InputError(f"num_negatives={num_negatives} leaves nothing to tell apart; use at least 1")
        self.mask_prob, self.mask_length, self.num_negatives = mask_prob, mask_length, num_negatives

    def __call__(self, sample: Sample, rng: np.random.Generator, training: bool) -> Item:
        """One clip with its masks.

        Returns:
            ``wave`` (n samples,) float32; ``masked`` (m,) int64 frames; ``negatives`` (m, K) int64 places in
            ``masked``; ``noise``, a seed.
        """
        wave = self.wave(sample, rng, training)
        frames = self.frames(len(wave))
        if frames < SHORTEST:
            reason = f"{frames} frames of audio are too few to mask some and keep some; {SHORTEST} are needed"
            raise SampleError(reason, "too_short")
        masked = np.flatnonzero(spans(frames, self.mask_prob, self.mask_length, rng))
        negatives = others(len(masked), self.num_negatives, rng)
        return {"wave": wave, "masked": masked, "negatives": negatives, "noise": int(rng.integers(2**63))}

    def collate(self, items: list[Item]) -> Batch:
        """``{"audio": ..., "size": B}``.

        ``audio`` is what :meth:`AudioPrepare.collate` gives, with ``masked`` (M,) int64 rows of the flat run of
        frames, ``negatives`` (M, K) int64 places in ``masked``, ``masks`` the layout of the masked frames and
        ``noise`` (B,) int64.
        """
        audio = super().collate(items)
        masks = Layout(lengths_of(items, "masked"))
        masked = torch.from_numpy(np.concatenate([item["masked"] for item in items]))
        negatives = torch.from_numpy(np.concatenate([item["negatives"] for item in items]))
        audio |= {
            "masked": masked + audio["layout"].offsets[masks.sequence],
            "negatives": negatives + masks.offsets[masks.sequence].unsqueeze(1),
            "masks": masks,
            "noise": torch.tensor([item["noise"] for item in items], dtype=torch.int64),
        }
        return {"audio": audio, "size": len(items)}


def spans(frames: int, mask_prob: float, mask_length: int, rng: np.random.Generator) -> np.ndarray:
    """(frames,) bool: at least two frames masked and at least one not; ``frames`` is at least 3."""
    length = min(mask_length, frames - 1)
    places = frames - length + 1
    count = int(mask_prob * frames / mask_length + rng.random())
    begins = rng.choice(places, size=min(max(count, 1), places), replace=False)
    mask = np.zeros(frames, dtype=bool)
    mask[begins[:, None] + np.arange(length)] = True
    if mask.all():
        mask[rng.integers(frames)] = False
    return mask


def others(masked: int, num_negatives: int, rng: np.random.Generator) -> np.ndarray:
    """(masked, num_negatives) int64 in 0..masked-1, in row i never i itself; ``masked`` is at least 2."""
    drawn = rng.integers(masked - 1, size=(masked, num_negatives))
    drawn += drawn >= np.arange(masked)[:, None]
    return drawn
