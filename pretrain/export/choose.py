"""From an encoder's name, and a task's, to what is written of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from data.errors import InputError
from modalities.audio.encoder import AudioEncoder
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.contrastive import Contrastive
from modalities.encoder import Encoder
from modalities.image.encoder import ImageEncoder
from modalities.objective import Objective
from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM
from pretrain.export import audio, clip, text
from pretrain.export.encoders import OBJECTIVES, encoder_of, fitting, objective_of
from pretrain.export.origin import Origin
from pretrain.export.plan import Plan
from pretrain.export.tokenizer import Tokens

NO_IDS: dict[str, int | None] = {}
_Part = TypeVar("_Part", Encoder, Objective)


def named(origin: Origin, encoder: str | None, task: str | None) -> tuple[str, str | None]:
    """Encoder and task that are meant where not both are named.

    The run's only task that can be written with its head; where there is none, its only encoder alone.

    Raises:
        InputError: there are several, or none, to choose from.
    """
    if encoder is not None:
        return encoder, task
    if task is None:
        tasks: Mapping[str, Any] = origin.config["tasks"]
        able = [name for name, spec in tasks.items() if str(spec["objective"].get("_target_")) in OBJECTIVES]
        encoders = {name for spec in tasks.values() for name in spec["encoders"].values()}
        if not able and len(encoders) == 1:
            return encoders.pop(), None
        if len(able) != 1:
            raise InputError(
                f"which part of '{origin.place}'? Give --task (with a head that transformers knows: "
                f"{', '.join(able) or 'none'}) or --encoder ({', '.join(origin.config['encoders'])})"
            )
        task = able[0]
    return str(next(iter(origin.task(task)["encoders"].values()))), task


def choose(origin: Origin, name: str, task: str | None, tokens: Mapping[str, Tokens]) -> Plan:
    """What ``transformers`` can hold of encoder ``name``, with the head of ``task`` if one is given.

    Args:
        origin: where the weights are from.
        name: of an encoder.
        task: one that uses the encoder; None: the encoder alone.
        tokens: encoder -> its tokenizer.

    Raises:
        InputError: an unknown name, a class that is not packaged, or settings that no family has.
    """
    node, where = origin.encoder(name), f"encoders.{name}"
    encoder = _loaded(encoder_of(node, where), origin.state("encoders", name), where)
    ids = tokens[name].ids if name in tokens else NO_IDS
    if task is not None:
        return _with_head(origin, name, encoder, task, tokens)
    return _told(_alone(origin, name, encoder, ids), {name: encoder})


def _alone(origin: Origin, name: str, encoder: Encoder, ids: Mapping[str, int | None]) -> Plan:
    node, where = origin.encoder(name), f"encoders.{name}"
    joint = [int(dim) for dim in encoder.projections]
    if isinstance(encoder, TextEncoder):
        # The same settings are GPT-2 and CLIP's text tower; a place in a joint space is what tells them apart.
        order = ("bert", "modernbert", "gpt2", "clip_text")
        settings, described = fitting(node, where, order[::-1] if joint else order)
        if described.family != "clip_text":
            plan = text.plan(encoder, settings, described, None, "", ids)
        else:
            plan = clip.tower(encoder, settings, described, joint[0] if len(joint) == 1 else None, ids)
        plan.text = name
        return plan
    if isinstance(encoder, ImageEncoder):
        fit = fitting(node, where, ("clip_vision",))
        return clip.tower(encoder, *fit, joint[0] if len(joint) == 1 else None, NO_IDS)
    assert isinstance(encoder, AudioEncoder)
    return audio.plan(encoder, *fitting(node, where, ("wav2vec2",)), None, _rate(origin, name))


def _with_head(origin: Origin, name: str, encoder: Encoder, task: str, tokens: Mapping[str, Tokens]) -> Plan:
    spec, where = origin.task(task), f"tasks.{task}.objective"
    sides: Mapping[str, str] = spec["encoders"]
    if name not in sides.values():
        raise InputError(f"--task '{task}' does not use encoder '{name}', but {', '.join(sides.values())}")
    objective = _loaded(objective_of(spec["objective"], where), origin.state("objectives", task), where)
    node, at = origin.encoder(name), f"encoders.{name}"
    ids = tokens[name].ids if name in tokens else NO_IDS
    if isinstance(objective, Contrastive):
        return _clip(origin, sides, objective, task, tokens)
    if isinstance(objective, Wav2Vec2):
        assert isinstance(encoder, AudioEncoder)
        plan = audio.plan(encoder, *fitting(node, at, ("wav2vec2",)), objective, _rate(origin, name))
        return _told(plan, {name: encoder})
    assert isinstance(encoder, TextEncoder)
    wanted = ("bert", "modernbert") if isinstance(objective, MaskedLM) else ("gpt2",)
    plan = text.plan(encoder, *fitting(node, at, wanted), objective, where, ids)
    plan.text = name
    return _told(plan, {name: encoder})


def _clip(
    origin: Origin, sides: Mapping[str, str], objective: Contrastive, task: str, tokens: Mapping[str, Tokens]
) -> Plan:
    found: dict[type, tuple[str, Any]] = {}
    for name in sides.values():
        made = encoder_of(origin.encoder(name), f"encoders.{name}")
        found[type(made)] = (name, _loaded(made, origin.state("encoders", name), f"encoders.{name}"))
    if set(found) != {ImageEncoder, TextEncoder}:
        pair = " and ".join(f"'{name}'" for name in sides.values())
        raise InputError(
            f"--task '{task}' pairs {pair}; CLIP of transformers pairs pictures and texts; leave --task out"
        )
    (image, pictures), (words, texts) = found[ImageEncoder], found[TextEncoder]
    plan = clip.pair(
        pictures,
        fitting(origin.encoder(image), f"encoders.{image}", ("clip_vision",)),
        texts,
        fitting(origin.encoder(words), f"encoders.{words}", ("clip_text",)),
        objective,
        tokens[words].ids if words in tokens else NO_IDS,
    )
    plan.text = words
    return _told(plan, {image: pictures, words: texts})


def _told(plan: Plan, encoders: Mapping[str, Encoder]) -> Plan:
    """``plan``, which says of each projection of the encoders that it does not hold that it is not there."""
    plan.notes += [
        f"The projection of encoder '{name}' into the joint space of {dim} features is not in the folder: its vectors "
        "are not comparable with those of other encoders."
        for name, encoder in encoders.items()
        for dim in encoder.projections
        if int(dim) != plan.config.get("projection_dim")
    ]
    return plan


def _loaded(module: _Part, state: Mapping[str, Tensor], where: str) -> _Part:
    """``module`` with the weights of a checkpoint, ready to be compared.

    Raises:
        InputError: they are of other settings.
    """
    if isinstance(module, Encoder):
        for dim in sorted({int(key.split(".")[1]) for key in state if key.startswith("projections.")}):
            module.add_projection(dim)
    own = module.state_dict()
    for key in sorted(own.keys() | state.keys()):
        if key not in own or key not in state:
            raise InputError(f"{where}: the checkpoint {'has' if key in state else 'lacks'} '{key}', unlike its config")
        if own[key].shape != state[key].shape:
            sizes = f"{tuple(state[key].shape)} in the checkpoint, {tuple(own[key].shape)} by its config"
            raise InputError(f"{where}: '{key}' is {sizes}")
    module.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    nn.Module.eval(module)
    return module


def _rate(origin: Origin, name: str) -> int:
    """Samples a second of what encoder ``name`` was fed with."""
    for spec in origin.config["tasks"].values():
        for side, encoder in spec["encoders"].items():
            prepare = spec["prepare"]
            part = prepare.get(side, prepare) if isinstance(prepare.get(side), Mapping) else prepare
            if encoder == name and "sample_rate" in part:
                return int(part["sample_rate"])
    return 16000
