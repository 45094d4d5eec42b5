"""wav2vec 2.0: ``Wav2Vec2ForPreTraining`` with its own masks and negatives, torchaudio's HuBERT, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from step_bench import flops
from step_bench.case import Case, Check, Ratio, Setup
from step_bench.side import Ours, Peer
from torch import Tensor

from modalities.audio.encoder import AudioEncoder
from modalities.audio.frames import KERNELS, STRIDES
from modalities.audio.hf_names import wav2vec2, wav2vec2_pretraining
from modalities.audio.masking import MaskedAudioPrepare
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.audio.window import normalise
from modalities.counter import fold, uniform
from modalities.hf_names import to_ours
from modalities.layout import Layout

SIZES = {
    "tiny": {"channels": 24, "width": 32, "depth": 2, "heads": 2, "batch": 2, "least": 1.0, "most": 2.0},
    "small": {"channels": 256, "width": 256, "depth": 4, "heads": 4, "batch": 4, "least": 2.0, "most": 8.0},
    "base": {"channels": 512, "width": 768, "depth": 12, "heads": 12, "batch": 16, "least": 8.0, "most": 15.6},
}
RATE, NEGATIVES, GROUPS, CODES, LATENT, FINAL, TAPS, CLASSES = 16000, 100, 2, 320, 256, 256, 128, 100
POSITION_GROUPS, SHARE, SPAN = 16, 0.65, 10


class Clips(MaskedAudioPrepare):
    """Clips that are decoded already."""

    def wave(self, sample: Any, rng: np.random.Generator, training: bool) -> np.ndarray:
        wave = np.empty_like(sample)
        normalise(sample, sample.mean(), wave)
        return wave


def clips(size: dict[str, Any], number: int, seed: int) -> list[np.ndarray]:
    """Noise, lengths alike between ``least`` and ``most`` seconds."""
    rng = np.random.default_rng((seed, number))
    lengths = (rng.uniform(size["least"], size["most"], size["batch"]) * RATE).astype(int)
    return [rng.standard_normal(n, dtype=np.float32) for n in lengths]


def hf_wav2vec2(size: dict[str, Any], **other: Any) -> Any:
    """The peer's model; ``other`` settings of its config instead of the paper's."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    settings = {
        "hidden_size": size["width"], "num_hidden_layers": size["depth"], "num_attention_heads": size["heads"],
        "intermediate_size": 4 * size["width"], "conv_dim": (size["channels"],) * 7, "conv_kernel": KERNELS,
        "conv_stride": STRIDES, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
        "num_conv_pos_embeddings": TAPS, "num_conv_pos_embedding_groups": POSITION_GROUPS, "num_negatives": NEGATIVES,
        "mask_time_prob": SHARE, "mask_time_length": SPAN, "layerdrop": 0.0, "proj_codevector_dim": FINAL,
        "codevector_dim": LATENT, "num_codevectors_per_group": CODES, "num_codevector_groups": GROUPS,
        "attn_implementation": "sdpa", "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0, "feat_quantizer_dropout": 0.0,
    }  # fmt: skip
    return Wav2Vec2ForPreTraining(Wav2Vec2Config(**(settings | other)))


class HfCollate:
    """Pads to the longest and draws masks and negatives as the library's own collator for pretraining does."""

    def __init__(self, model: Any) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        self.model = model
        self.extract = Wav2Vec2FeatureExtractor(
            feature_size=1, sampling_rate=RATE, do_normalize=True, return_attention_mask=True, padding_value=0.0
        )

    def __call__(self, given: list[np.ndarray]) -> dict[str, Tensor]:
        from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

        batch = self.extract(given, sampling_rate=RATE, padding="longest", return_tensors="pt")
        rows = frames(batch["input_values"].shape[1])
        there = self.model._get_feature_vector_attention_mask(rows, batch["attention_mask"])
        shape = (len(given), rows)
        settings = self.model.config
        share, span = settings.mask_time_prob, settings.mask_time_length
        mask = _compute_mask_indices(shape, share, span, attention_mask=there, min_masks=2)
        negatives = _sample_negative_indices(shape, settings.num_negatives, mask_time_indices=mask)
        drawn = {"mask_time_indices": torch.from_numpy(mask), "sampled_negative_indices": torch.from_numpy(negatives)}
        return dict(batch) | drawn


class Hubert:
    """torchaudio's HuBERT: the same encoder with another loss (classes that are given), a second reference."""

    def __init__(self, size: dict[str, Any]) -> None:
        from torchaudio.models import hubert_pretrain_model

        shapes = [(size["channels"], k, s) for k, s in zip(KERNELS, STRIDES, strict=True)]
        self.model = hubert_pretrain_model(
            extractor_mode="layer_norm", extractor_conv_layer_config=shapes, extractor_conv_bias=True,
            encoder_embed_dim=size["width"], encoder_projection_dropout=0.0, encoder_pos_conv_kernel=TAPS,
            encoder_pos_conv_groups=POSITION_GROUPS, encoder_num_layers=size["depth"],
            encoder_num_heads=size["heads"], encoder_attention_dropout=0.0,
            encoder_ff_interm_features=4 * size["width"], encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0, encoder_layer_norm_first=True, encoder_layer_drop=0.0,
            mask_prob=0.8, mask_selection="static", mask_other=0.0, mask_length=SPAN, no_mask_overlap=False,
            mask_min_space=1, mask_channel_prob=0.0, mask_channel_selection="static", mask_channel_other=0.0,
            mask_channel_length=10, no_mask_channel_overlap=False, mask_channel_min_space=1, skip_masked=False,
            skip_nomask=True, num_classes=CLASSES, final_dim=FINAL, feature_grad_mult=0.1,
        )  # fmt: skip

    def collate(self, given: list[np.ndarray]) -> dict[str, Tensor]:
        lengths = torch.tensor(list(map(len, given)))
        wave = torch.zeros(len(given), int(lengths.max()))
        for row, clip in zip(wave, given, strict=True):
            row[: len(clip)] = torch.from_numpy((clip - clip.mean()) / (clip.std() + 1e-5))
        labels = torch.randint(0, CLASSES, (len(given), frames(wave.shape[1])))
        return {"wave": wave, "labels": labels, "lengths": lengths}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        logits, _, _ = self.model(batch["wave"], batch["labels"], batch["lengths"])
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))  # the right class is first


def frames(samples: int) -> int:
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


class Work:
    """Useful FLOPs: nothing is padding, similarities at masked frames alone."""

    def __init__(self, size: dict[str, Any]) -> None:
        self.size = size

    def __call__(self, samples: list[int], masked: int) -> tuple[float, float]:
        width, channels, lengths = self.size["width"], self.size["channels"], list(map(frames, samples))
        first, rest = flops.convolutions(samples, channels, KERNELS, STRIDES)
        rest += self.size["depth"] * flops.block(lengths, width, 4 * width)
        rest += sum(lengths) * (2.0 * channels * width + 2.0 * TAPS * width * width / POSITION_GROUPS)
        rest += masked * 2.0 * ((NEGATIVES + 1) * FINAL + width * FINAL + channels * GROUPS * CODES + LATENT * FINAL)
        return sum(samples) / RATE, 3 * rest + 2 * first


def case(setup: Setup) -> Case:
    """The sides, their ratios, and whether the losses are the same."""
    size = SIZES[setup.size]
    torch.manual_seed(setup.seed)
    np.random.seed(setup.seed)  # theirs draw from numpy's global state
    known = [clips(size, number, setup.seed) for number in range(4)]
    base = (lambda number: known[number % 4], setup.steps, setup.device, setup.dtype)
    model, work = hf_wav2vec2(size), Work(size)
    encoder = AudioEncoder(
        size["channels"], size["width"], size["depth"], size["heads"], positions="convolutional",
        position_kernel=TAPS, position_groups=POSITION_GROUPS,
    )  # fmt: skip
    objective = Wav2Vec2(size["channels"], size["width"], GROUPS, CODES, LATENT, final_dim=FINAL)
    both = wav2vec2_pretraining(wav2vec2(size["depth"], 7, "layer", True), GROUPS, CODES, LATENT)
    for part, table in zip((encoder, objective), both, strict=True):
        part.load_state_dict({name: x.clone() for name, x in to_ours(table, model.state_dict()).items()})
    prepare = Clips(mask_prob=SHARE, mask_length=SPAN, num_negatives=NEGATIVES)

    def collate(given: list[np.ndarray], number: int) -> Any:
        seeds = np.random.default_rng(number).integers(2**63, size=len(given))
        items = [prepare(clip, np.random.default_rng(seed), True) for seed, clip in zip(seeds, given, strict=True)]  # type: ignore[arg-type]
        return prepare.collate(items)

    ours = Ours(
        "ours", *base, encoders={"audio": encoder}, objective=objective, collate=collate, compiled=setup.compiled,
        work=lambda b: work(b["audio"]["samples"], len(b["audio"]["masked"])),
    )  # fmt: skip
    theirs, hubert = HfCollate(model), Hubert(size)

    def hf_loss(batch: Any) -> Tensor:
        return model(**batch).loss / batch["mask_time_indices"].sum()

    peers = {
        "hf wav2vec2": Peer(
            "hf wav2vec2", *base, model=model, collate=theirs, forward=hf_loss, compiled=setup.compiled,
            work=lambda given, b: work(list(map(len, given)), int(b["mask_time_indices"].sum())),
        ),
        "torchaudio hubert": Peer(
            "torchaudio hubert", *base, model=hubert.model, collate=hubert.collate, forward=hubert.loss,
            compiled=setup.compiled, work=lambda given, _: work(list(map(len, given)), 0),
        ),
    }  # fmt: skip

    def checks() -> Iterator[Check]:
        given = theirs(known[0])
        batch = translated(prepare, known[0], given)
        mine = ours.loss(batch)
        # Their frozen running state has no part in it: the temperature of the first step, and our noise.
        model.set_gumbel_temperature(objective.quantizer.temperature(0))
        with torch.no_grad(), SameNoise(batch["audio"], given["mask_time_indices"]):
            expected = float(hf_loss({name: x.to(setup.device) for name, x in given.items()}))
        yield Check("ours", "hf wav2vec2", mine, expected)

    lines = [Ratio("ours", ("hf wav2vec2",), 3.0)]
    return Case("wav2vec", "audio-s", {"ours": ours} | peers, checks, lines)


def translated(prepare: Clips, given: list[np.ndarray], theirs: dict[str, Tensor]) -> Any:
    """Our batch with the masks and negatives that they drew."""
    items = []
    for clip, mask, drawn in zip(given, theirs["mask_time_indices"], theirs["sampled_negative_indices"], strict=True):
        masked = mask.nonzero().flatten()
        # Theirs count rows of the padded batch; the place among the clip's masked frames is what ours counts.
        place = torch.searchsorted(masked, drawn[mask] % len(mask))
        rng = np.random.default_rng(len(items))
        wave = prepare.wave(clip, rng, True)
        items.append({"wave": wave, "masked": masked.numpy(), "negatives": place.numpy(), "noise": len(items)})
    return prepare.collate(items)


class SameNoise:
    """Their Gumbel softmax with the noise that ours derives from the seeds of ``audio``."""

    def __init__(self, audio: Any, mask: Tensor) -> None:
        masks: Layout = audio["masks"]
        seeds = fold(audio["noise"][masks.sequence], audio["layout"].position[audio["masked"]])
        self.noise = torch.zeros(mask.numel(), GROUPS * CODES)
        self.noise[mask.flatten()] = -torch.log(-torch.log(uniform(seeds, GROUPS * CODES)))

    def __enter__(self) -> None:
        self.original = F.gumbel_softmax

        def gumbel_softmax(logits: Tensor, tau: float, hard: bool) -> Tensor:
            soft = ((logits + self.noise.to(logits.device).view_as(logits)) / tau).softmax(-1)
            return F.one_hot(soft.argmax(-1), CODES) + (soft - soft.detach())

        torch.nn.functional.gumbel_softmax = gumbel_softmax

    def __exit__(self, *_: object) -> None:
        torch.nn.functional.gumbel_softmax = self.original
