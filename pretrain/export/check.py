"""An export is right when ``transformers`` loads it and computes what we compute."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.errors import InputError, RunError
from data.sample import Sample
from modalities.image.prepare import ImagePrepare
from pretrain.export.plan import Plan
from pretrain.export.tokenizer import Tokens

TOLERANCE = 1e-5
TEXTS = ("A small red circle, left of a blue square.", "  déjà vu\t漢字 🙂 ", "what [MASK] and [SEP] say", "x" * 50)
INSTALL = "pip install 'transformers>=5' (this package's extra 'export')"


@dataclass
class Parity:
    """How near both models are.

    Attributes:
        outputs: output -> largest difference, as a share of the output's largest number.
        tokens: texts on which the tokenizers agree; None where there is no tokenizer.
        version: of ``transformers``.
    """

    outputs: dict[str, float]
    tokens: int | None
    version: str

    @property
    def worst(self) -> float:
        """The largest of the differences."""
        return max(self.outputs.values())


def library() -> ModuleType:
    """``transformers``.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise InputError(
            f"an export is checked against transformers, which is not installed ({error.name} is missing): {INSTALL}, "
            "or --no-check writes the files without it"
        ) from None


def check(plan: Plan, folder: Path, tokens: Mapping[str, Tokens]) -> Parity:
    """Loads what was written, by the class named in the plan, and compares.

    No code of the folder runs: the class is one of ``transformers`` itself, and its ``trust_remote_code`` stays off.

    Raises:
        RunError: it does not load, or computes something else.
    """
    transformers = library()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, info = load(plan, folder)
    absent = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    surplus = [*info["unexpected_keys"], *(str(key) for key in info["mismatched_keys"])]
    if absent or surplus:
        raise RunError(f"{plan.architecture} misses {absent[:3]} and has no place for {surplus[:3]} in '{folder}'")
    outputs = {}
    for name, ours, theirs in plan.probe(model.eval()):
        if ours.shape != theirs.shape or not bool(torch.isfinite(theirs).all()):
            raise RunError(
                f"{plan.architecture} gives {name} of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}, or NaN"
            )
        outputs[name] = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12))
    agree = None
    if plan.text in tokens:
        agree = _check_tokens(transformers, plan, folder, tokens[str(plan.text)])
    if plan.processor is not None:
        _check_processor(transformers, plan, folder)
    found = Parity(outputs, agree, str(transformers.__version__))
    if not found.worst <= TOLERANCE:
        which = max(outputs, key=lambda name: outputs[name])
        raise RunError(
            f"{plan.architecture} computes {which} differently from this model, by {found.worst:.1e} of its largest "
            f"number (bound {TOLERANCE:.0e}); nothing was written; please report it with the encoder's config"
        )
    return found


def load(plan: Plan, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model that was written, by its class, and what of the weights found no place in it.

    Raises:
        InputError: this ``transformers`` has no such class.
        RunError: it does not load.
    """
    transformers = library()
    cls = getattr(transformers, plan.architecture, None)
    if cls is None:
        raise InputError(f"transformers {transformers.__version__} has no {plan.architecture}; {INSTALL}")
    try:
        return cls.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)  # type: ignore[no-any-return]
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise RunError(f"{plan.architecture} does not load what was written: {str(error).splitlines()[0]}") from error


def _check_tokens(transformers: ModuleType, plan: Plan, folder: Path, tokens: Tokens) -> int:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        found, expected = theirs(text)["input_ids"], tokens.expected(text, plan.causal)
        if found != expected:
            raise RunError(f"the tokenizer that was written makes {found[:8]} of {text[:30]!r}, not {expected[:8]}")
    batch = theirs(list(TEXTS), padding=True)
    for text, row, there in zip(TEXTS, batch["input_ids"], batch["attention_mask"], strict=True):
        expected = tokens.expected(text, plan.causal)
        if row[: len(expected)] != expected or there != [int(place < len(expected)) for place in range(len(row))]:
            raise RunError(f"the tokenizer that was written makes something else of {text[:30]!r} in a padded batch")
    return len(TEXTS)


def _check_processor(transformers: ModuleType, plan: Plan, folder: Path) -> None:
    """That it loads, and makes of sounds and pictures what our own prepare and normalisation do."""
    processor = getattr(transformers, str(plan.processor)).from_pretrained(folder)
    settings = plan.files["preprocessor_config.json"]
    if "sampling_rate" in settings:
        wave = np.sin(np.arange(8000, dtype=np.float32) / 20) + 0.3
        found = processor(wave, sampling_rate=settings["sampling_rate"], return_tensors="pt")["input_values"][0]
        worst = float((found - torch.from_numpy((wave - wave.mean()) / wave.std())).abs().max())
    else:
        side = settings["crop_size"]["height"]
        # Square ones: of others the crop lies a little elsewhere, see pretrain.export.clip.picture_processor.
        worst = max(_picture_differs(processor, settings, side, size) for size in (side, side + side // 2))
    if worst > 1e-4:
        raise RunError(f"{plan.processor} prepares inputs differently from this framework")


def _picture_differs(processor: Any, settings: Mapping[str, Any], side: int, size: int) -> float:
    """By how much at most a picture of ``size`` x ``size`` pixels of noise is prepared differently."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    picture, file = Image.fromarray(pixels), io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    sample = Sample("", "noise", {"png": file.getvalue()})
    ours = ImagePrepare(side)(sample, np.random.default_rng(0), False)["pixels"]
    mean, spread = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    found = processor(images=picture, return_tensors="pt")["pixel_values"][0]
    # In grey levels. Without torchvision Pillow resizes there, and may round a level the other way.
    levels = (found * spread + mean) * 255 - ours
    return max(0.0, float(levels.abs().max()) - (size > side)) / 255
