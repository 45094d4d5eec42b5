"""Which families an encoder of a config is: decided by the packaged encoder classes and their settings alone.

A config that travels with weights is data. What it names in ``_target_`` is looked up in the table below and never
imported, so that reading somebody else's checkpoint runs none of their code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data.errors import InputError
from modalities.audio import hf_config as audio
from modalities.audio.encoder import AudioEncoder
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.contrastive import Contrastive
from modalities.encoder import Encoder
from modalities.hf_config import Described, Settings, settings_of
from modalities.image import hf_config as image
from modalities.image.encoder import ImageEncoder
from modalities.objective import Objective
from modalities.text import hf_config as text
from modalities.text.causal_lm import CausalLM
from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM


class Kind(NamedTuple):
    """A packaged encoder class and the families it can be."""

    cls: type[Encoder]
    families: dict[str, Callable[[Settings], Described]]


KINDS = {
    "modalities.text.encoder.TextEncoder": Kind(
        TextEncoder,
        {"bert": text.bert, "modernbert": text.modernbert, "gpt2": text.gpt2, "clip_text": text.clip_text},
    ),
    "modalities.image.encoder.ImageEncoder": Kind(ImageEncoder, {"clip_vision": image.clip_vision}),
    "modalities.audio.encoder.AudioEncoder": Kind(AudioEncoder, {"wav2vec2": audio.wav2vec2}),
}
OBJECTIVES: dict[str, type[Objective]] = {
    "modalities.text.masked_lm.MaskedLM": MaskedLM,
    "modalities.text.causal_lm.CausalLM": CausalLM,
    "modalities.contrastive.Contrastive": Contrastive,
    "modalities.audio.wav2vec2.Wav2Vec2": Wav2Vec2,
}
DEFAULTS: dict[str, dict[str, Any]] = {**text.DEFAULTS, "clip_vision": image.DEFAULTS, "wav2vec2": audio.DEFAULTS}


def kind_of(node: Any, where: str) -> Kind:
    """The packaged class that ``node`` names.

    Raises:
        InputError: it names another one.
    """
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str) or target not in KINDS:
        raise InputError(
            f"{where}._target_ '{target}' is no packaged encoder, so no family of transformers is known for it; "
            f"choices: {', '.join(KINDS)}"
        )
    return KINDS[target]


def encoder_of(node: Mapping[str, Any], where: str) -> Encoder:
    """The encoder that ``node`` describes, with weights that are to be replaced.

    Raises:
        InputError: another class than the packaged ones, or settings that it refuses.
    """
    kind = kind_of(node, where)
    settings_of(kind.cls, node, where)  # names an unknown key by its place
    return _made(kind.cls, node, where)


def objective_of(node: Any, where: str) -> Objective:
    """The objective that ``node`` describes.

    Raises:
        InputError: its class is none of those that a class of ``transformers`` has a head for.
    """
    target = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(target, str) or target not in OBJECTIVES:
        raise InputError(
            f"{where}._target_ '{target}': transformers has no class with such a head; leave --task out to write the "
            f"encoder alone; choices: {', '.join(OBJECTIVES)}"
        )
    return _made(OBJECTIVES[target], node, where)


def _made(cls: type[Any], node: Mapping[str, Any], where: str) -> Any:
    try:
        return cls(**{str(key): value for key, value in node.items() if key != "_target_"})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where}: {cls.__name__} refuses these settings: {reason}") from error


def fitting(node: Mapping[str, Any], where: str, wanted: tuple[str, ...]) -> tuple[Settings, Described]:
    """The settings of an encoder and the first of the ``wanted`` families that it is.

    Raises:
        InputError: it is none of them; every setting by which it differs from the nearest is named.
    """
    kind = kind_of(node, where)
    settings = settings_of(kind.cls, node, where)
    tried = [kind.families[name](settings) for name in wanted if name in kind.families]
    if not tried:
        raise InputError(f"{where} is a {kind.cls.__name__}; it cannot be {' or '.join(wanted)}")
    best = min(tried, key=lambda described: len(described.differences))
    if best.differences:
        raise InputError(
            f"{where} is no family of transformers; nearest is {best.published}, from which it differs in "
            f"{'; '.join(best.differences)}"
        )
    return settings, best
