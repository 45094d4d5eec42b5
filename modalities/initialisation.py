"""Initial weights by published recipe. W features, D blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from data.errors import InputError, choices


class Spreads(NamedTuple):
    """Standard deviations of the weights of a block's four layers; biases begin at 0.

    ``cut``: in standard deviations, where the normal distribution is cut off; 0 for nowhere.
    """

    attention_in: float
    attention_out: float
    mlp_in: float
    mlp_out: float
    cut: float = 0.0


def _clip(width: int, depth: int) -> Spreads:
    out = width**-0.5 * (2 * depth) ** -0.5
    return Spreads(width**-0.5, out, (2 * width) ** -0.5, out)


# Residual branches add up over depth: GPT-2 (section 2.3) scales their last layer by 1/sqrt(branches).
RECIPES: dict[str, Callable[[int, int], Spreads]] = {
    "gpt2": lambda width, depth: Spreads(0.02, 0.02 * (2 * depth) ** -0.5, 0.02, 0.02 * (2 * depth) ** -0.5),
    "bert": lambda width, depth: Spreads(0.02, 0.02, 0.02, 0.02),
    "wav2vec2": lambda width, depth: Spreads(0.02, 0.02, 0.02, 0.02),
    "modernbert": lambda width, depth: Spreads(0.02, 0.02 * (2 * depth) ** -0.5, 0.02, 0.02 * (2 * depth) ** -0.5, 2.0),
    "vit": lambda width, depth: Spreads(0.02, 0.02, 0.02, 0.02, 100.0),
    "clip": _clip,
}
"""gpt2 (Radford et al. 2019), bert (Devlin et al. 2019), wav2vec2 (Baevski et al. 2020, as in fairseq: blocks as those
of bert, projections before and behind the trunk as torch makes a linear layer), modernbert (Warner et al. 2024, as in
transformers), vit (as in timm and transformers), clip (Radford et al. 2021, as in open_clip)."""

POSITION_STD = {"clip": 0.01}
"""Of learned positions of texts, where a recipe says something else than 0.02 (CLIP's published code)."""


def spreads(recipe: str, width: int, depth: int) -> Spreads:
    """What ``recipe`` says for a trunk of ``depth`` blocks of ``width`` features.

    Raises:
        InputError: unknown ``recipe``.
    """
    if recipe not in RECIPES:
        raise InputError(f"initialisation '{recipe}' is unknown; {choices(recipe, RECIPES)}")
    return RECIPES[recipe](width, depth)


def initialise(module: nn.Module, std: float = 0.02, cut: float = 0.0) -> None:
    """Weights of a linear layer or an embedding N(0, ``std``), cut off at ``cut`` deviations if not 0; biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        if cut:
            nn.init.trunc_normal_(module.weight, std=std, a=-cut * std, b=cut * std)
        else:
            nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
