"""Puts the weights of a ``transformers`` folder into a model that begins, and says what went where."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.contrastive import Contrastive
from modalities.hf_config import Described, Settings, disagreements, settings_of
from modalities.image.encoder import ImageEncoder
from modalities.lora import is_update
from modalities.prepare import Sides
from modalities.text.masked_lm import MaskedLM
from modalities.text.tokenizer import TextTokenizer
from pretrain.export.encoders import DEFAULTS, KINDS, Kind
from pretrain.export.incoming import FAMILIES, Folder, open_folder
from pretrain.export.text import head_differences
from pretrain.export.tokenizer import FILE
from pretrain.export.weights import incoming
from pretrain.model import Model
from pretrain.sharding.restoring import load_weights

log = logging.getLogger("pretrain")

# What of an objective a family has a head for.
HEADS: dict[str, type[nn.Module]] = {
    "bert": MaskedLM,
    "modernbert": MaskedLM,
    "clip_text": Contrastive,
    "clip_vision": Contrastive,
    "wav2vec2": Wav2Vec2,
}


def initialise(config: Mapping[str, Any], model: Model) -> None:
    """Begins ``model`` with the weights that ``init_from`` names.

    Args:
        config: of the run; ``init_from`` is a folder, or encoder -> folder.
        model: changed in place.

    Raises:
        InputError: no encoder is of the folder's family, several are, sizes differ, or the tokenizer is another one.
    """
    given = config["init_from"]
    for name in given if isinstance(given, Mapping) else ():
        if name not in model.encoders:
            raise InputError(
                f"init_from.{name}: no such encoder in this run; {choices(str(name), list(model.encoders))}"
            )
    wanted = given.items() if isinstance(given, Mapping) else [(None, given)]
    for name, place in wanted:
        folder = open_folder(str(place))
        weights = folder.weights()
        used: set[str] = set()
        for family in FAMILIES[folder.model_type]:
            taker = _taker(config, model, folder, family, name)
            if taker is not None:
                used |= _fill(model, folder, weights, taker, *_fitting(config, model, taker, family))
        if not used:
            kinds = " or ".join(FAMILIES[folder.model_type])
            raise InputError(f"init_from '{place}' ({kinds}) fits no encoder of this run: {', '.join(model.encoders)}")
        rest = sorted(weights.keys() - used)
        if rest:
            log.info("init_from %s: %d tensors left out (%s)", place, len(rest), ", ".join(rest[:5]))
        if "auto_map" in folder.config:
            log.info("init_from %s: config.json names code of its own (auto_map); none of it is run", place)


def _kind(config: Mapping[str, Any], name: str) -> Kind | None:
    return KINDS.get(str(config["encoders"][name].get("_target_")))


def _fitting(config: Mapping[str, Any], model: Model, name: str, family: str) -> tuple[Settings, Described]:
    kind = _kind(config, name)
    assert kind is not None
    settings = settings_of(kind.cls, config["encoders"][name], f"encoders.{name}")
    return settings, kind.families[family](settings)


def _taker(config: Mapping[str, Any], model: Model, folder: Folder, family: str, named: str | None) -> str | None:
    """The encoder that takes ``family``: the one ``named``, or the only one that can.

    Raises:
        InputError: an encoder of that modality differs from the family or its sizes, or several fit.
    """
    able, reasons = [], []
    for name in model.encoders if named is None else [named]:
        kind = _kind(config, name)
        if kind is None or family not in kind.families:
            continue
        _, described = _fitting(config, model, name, family)
        lines = described.differences or disagreements(described.config, folder.part(family), DEFAULTS[family])
        if lines:
            reasons.append(f"encoders.{name} does not fit '{folder.path}': {'; '.join(lines)}")
        else:
            able.append(name)
    if len(able) > 1:
        raise InputError(
            f"init_from '{folder.path}' fits encoders {' and '.join(able)}; "
            f"name one: init_from={{{able[0]}: {folder.path}}}"
        )
    if not able and reasons:
        raise InputError(reasons[0])
    return able[0] if able else None


def _fill(
    model: Model, folder: Folder, weights: dict[str, Tensor], name: str, settings: Settings, described: Described
) -> set[str]:
    """Loads encoder ``name`` and the objective with the family's head; returns their names that were used."""
    family = described.family
    _check_tokenizer(model, folder, name)
    encoder = model.encoders[name]
    task = next((t for t in model.tasks.values() if _has_head(t.objective, family) and name in t.sides.values()), None)
    if task is not None and isinstance(task.objective, MaskedLM):
        lines = head_differences(described, task.objective, settings)
        if lines:
            log.warning("init_from %s: the head of task %s begins anew: %s", folder.path, task.name, "; ".join(lines))
            task = None
    head = task.objective.state_dict() if task is not None else {}
    arrived = incoming(family, settings, encoder.state_dict(), head, weights)
    place = f"init_from '{folder.path}'"
    _load(encoder, arrived.encoder, f"{place}: encoders.{name}", strict=True)
    own = [key for key in encoder.state_dict() if not is_update(key)]
    begun = [f"encoders.{name}.{key}" for key in own if key not in arrived.encoder]
    if task is not None:
        _load(task.objective, arrived.objective, f"{place}: tasks.{task.name}.objective", strict=False)
        begun += [f"tasks.{task.name}.objective.{key}" for key in head if key not in arrived.objective]
    count = len(arrived.encoder) + len(arrived.objective)
    log.info("init_from %s: encoder %s is %s; %d tensors taken", folder.path, name, described.published, count)
    if begun:
        log.info("init_from %s: %d tensors begin anew (%s)", folder.path, len(begun), ", ".join(begun[:5]))
    if isinstance(encoder, ImageEncoder) and described.family == "clip_vision":
        log.info("pictures are normalised by mean and spread of encoders.%s, not by the folder's processor", name)
    return set(weights) - set(arrived.unused)


def _has_head(objective: nn.Module, family: str) -> bool:
    return family in HEADS and isinstance(objective, HEADS[family])


def _load(module: nn.Module, state: Mapping[str, Tensor], where: str, strict: bool) -> None:
    """Raises InputError where a shape differs or, if ``strict``, a tensor that cannot begin anew is missing."""
    own = module.state_dict()
    for key, tensor in state.items():
        if own[key].shape != tensor.shape:
            raise InputError(
                f"{where}: '{key}' is {tuple(tensor.shape)} there and {tuple(own[key].shape)} in this model"
            )
    optional = ("projections.", "mask_embedding")
    for key in own:
        given = key in state or key.startswith(optional) or is_update(key) or _may_be_zero(key, state)
        if strict and not given:
            raise InputError(f"{where}: the folder lacks what '{key}' could begin with")
    load_weights(module, state)


def _may_be_zero(key: str, state: Mapping[str, Tensor]) -> bool:
    """A bias of a layer whose weight is there: it begins at zero, which is to have none."""
    return key.endswith(".bias") and f"{key.removesuffix('bias')}weight" in state


def _check_tokenizer(model: Model, folder: Folder, encoder: str) -> None:
    """Compares what both tokenizers make of texts, where the folder has one in this form.

    Raises:
        InputError: they differ: token numbers would change their meaning.
    """
    own = _tokenizer(model, encoder)
    if own is None:
        return
    there = folder.path / FILE
    if not there.is_file():
        log.warning("init_from %s has no %s: whether tokens mean the same is not known", folder.path, FILE)
    elif TextTokenizer(str(there)).content() != own.content():
        raise InputError(
            f"the tokenizer of encoder '{encoder}' ({own.path}) is not the one of init_from '{folder.path}': token "
            f"numbers would change their meaning; use data.tokenizer={there}"
        )


def _tokenizer(model: Model, encoder: str) -> TextTokenizer | None:
    for task in model.tasks.values():
        for side, name in task.sides.items():
            part = task.prepare.sides[side] if isinstance(task.prepare, Sides) else task.prepare
            found = getattr(part, "tokenizer", None)
            if name == encoder and isinstance(found, TextTokenizer):
                return found
    return None
