"""Which parameters are trained, how fast, and which of them decay: rules over parameter names and shapes."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from data.errors import InputError, choices
from modalities.encoder import Encoder
from modalities.pairs import frozen

log = logging.getLogger("pretrain")

# The numbered layers of an encoder: our trunk's, and the names that timm and transformers use.
_LAYER = re.compile(r"\.(?:blocks?|layers?|h)\.(\d+)\.")
# What says nothing of a parameter's kind: the name that a user gave, and that it embeds patches, as any matrix would.
_ABOVE = re.compile(r"^(?:(?:encoders|objectives)\.[^.]+\.)?(?:.*patch_embed)?")
_EMBEDDING = re.compile(r"embed|\b(wte|wpe|class_token|cls_token|pos_embed)\b|\bpositions?(\.weight)?$")
_NORM_SCALE = re.compile(r"(weight_g|parametrizations\.\w+\.original0)$")
_HEAD = re.compile(r"^encoders\.[^.]+\.projections\.")


@dataclass(frozen=True)
class Trained:
    """A parameter that an optimizer changes.

    Attributes:
        name: in the model.
        parameter: itself.
        factor: of the learning rate.
        decays: whether weight decay applies to it.
        hidden: whether it is a matrix of an encoder's numbered layers.
    """

    name: str
    parameter: nn.Parameter
    factor: float
    decays: bool
    hidden: bool


def trained(
    parameters: Iterable[tuple[str, nn.Parameter]],
    layer_decay: float = 1.0,
    lr_factors: Mapping[str, float] | None = None,
    decay_embeddings: bool = True,
) -> list[Trained]:
    """What is to be trained, in the model's order; what ``lr_factors`` sets to 0 is frozen.

    A frozen parameter has ``requires_grad=False``, so no gradient is computed for it, nor for what lies below it only.

    Args:
        parameters: (name, parameter) pairs of the model.
        layer_decay: layer l of L has the factor ``layer_decay ** (L + 1 - l)``: 1 above the last layer, embeddings
            least (Clark et al. 2020, section 3.1; Bao et al. 2021). 1 is off.
        lr_factors: an encoder's name, a dotted place in it (``image.projections``), the full name of a part
            (``objectives.clip``), ``encoders`` or ``objectives`` for all of them -> factor; the longest that fits
            counts. ``{image: 0}`` locks a tower (LiT, Zhai et al. 2022), ``{image: 0, image.projections: 1}`` all of
            it but its projection.
        decay_embeddings: whether token and position embeddings decay; vectors (biases, norms) never do.

    Raises:
        InputError: a factor is negative, names nothing, or nothing is left to train.
    """
    pairs = list(parameters)
    if lr_factors is not None and not isinstance(lr_factors, Mapping):
        raise InputError(f"lr_factors={lr_factors!r} is no mapping; give such as {{image: 0.1}}, or null")
    factors = dict(lr_factors or {})
    if not 0 < layer_decay <= 1:
        raise InputError(f"layer_decay={layer_decay} is not above 0 and at most 1")
    _check(factors, [name for name, _ in pairs])
    depths = layer_factors(pairs, layer_decay)
    found = []
    for name, p in pairs:
        factor = _own(name, factors)
        if factor == 0:
            p.requires_grad_(False)
        if p.requires_grad:
            # Of a scale or a token that is stored with more dimensions one alone is wider than 1.
            vector = p.ndim < 2 or (p.ndim > 2 and p.numel() == max(p.shape))
            decays = not vector and not _NORM_SCALE.search(name)
            embedding = _EMBEDDING.search(_ABOVE.sub("", name)) is not None
            decays &= decay_embeddings or not embedding
            hidden = p.ndim == 2 and name.startswith("encoders.") and _LAYER.search(name) is not None
            hidden &= not embedding
            found.append(Trained(name, p, factor * depths.get(name, 1.0), decays, hidden))
    if not found:
        raise InputError("lr_factors freezes every parameter; nothing is left to train")
    return found


def groups(parts: Iterable[Trained], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of a torch optimizer, those that decay first, faster ones before slower ones.

    Raises:
        InputError: ``lr`` or ``weight_decay`` is no number of 0 or more.
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise InputError(f"{name}={value!r} is no number of 0 or more")
    by_kind: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for part in parts:
        by_kind.setdefault((part.decays, part.factor), []).append(part.parameter)
    return [
        {"params": members, "lr": lr * factor, "weight_decay": weight_decay if decays else 0.0}
        for (decays, factor), members in sorted(by_kind.items(), key=lambda item: item[0], reverse=True)
    ]


def locked(model: nn.Module) -> list[nn.Module]:
    """The largest parts of ``model`` that have parameters, none of which is trained.

    An encoder of which projections alone are trained is one: it may have dropout of its own, and they have none.
    """
    if any(True for _ in model.parameters()) and not any(p.requires_grad for p in model.parameters()):
        return [model]
    if isinstance(model, Encoder) and frozen(model):
        return [model]
    return [part for child in model.children() for part in locked(child)]


def layer_factors(pairs: Iterable[tuple[str, nn.Parameter]], layer_decay: float) -> dict[str, float]:
    """Parameter name -> factor of its layer, for the encoders that have numbered layers.

    What an encoder registers before them (embeddings, front ends) lies below, what it registers behind them above;
    the projections into joint spaces lie above too. Of several numbered stacks that with most weights counts.

    Raises:
        InputError: the only encoder has none.
    """
    found: dict[str, float] = {}
    if layer_decay == 1:
        return found
    encoders: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, p in pairs:
        if name.startswith("encoders."):
            encoders.setdefault(name.split(".")[1], []).append((name, p))
    for encoder, members in encoders.items():
        stacks: Counter[str] = Counter()
        for name, p in members:
            match = _LAYER.search(name)
            if match:
                stacks[name[: match.start(1)]] += p.numel()
        if not stacks:
            if len(encoders) == 1:
                raise InputError(f"layer_decay={layer_decay}: encoder '{encoder}' has no numbered layers that it knows")
            log.warning("layer_decay=%g leaves encoder '%s' as it is: it has no numbered layers", layer_decay, encoder)
            continue
        stack = stacks.most_common(1)[0][0]
        depth = 1 + max(int(name[len(stack) :].split(".")[0]) for name, _ in members if name.startswith(stack))
        layer = 0
        for name, _ in members:
            if name.startswith(stack):
                layer = int(name[len(stack) :].split(".")[0]) + 1
            elif layer:
                layer = depth + 1
            own = depth + 1 if _HEAD.match(name) else layer
            found[name] = layer_decay ** (depth + 1 - own)
    return found


def _own(name: str, factors: Mapping[str, float]) -> float:
    """The factor of the longest of ``factors`` that ``name`` lies in."""
    fitting = [place for place in factors if _within(name, place)]
    return float(factors[max(fitting, key=lambda place: len(_full(place)))]) if fitting else 1.0


def _full(place: str) -> str:
    whole = place in ("encoders", "objectives") or place.startswith(("encoders.", "objectives."))
    return place if whole else f"encoders.{place}"


def _within(name: str, place: str) -> bool:
    return name == _full(place) or name.startswith(f"{_full(place)}.")


def _check(factors: Mapping[str, float], names: list[str]) -> None:
    for place, factor in factors.items():
        if not isinstance(factor, int | float) or isinstance(factor, bool) or not factor >= 0:
            raise InputError(f"lr_factors.{place}={factor!r} is no number of 0 or more")
        if not any(_within(name, place) for name in names):
            known = {name.split(".")[1] for name in names if name.startswith("encoders.")}
            known |= {".".join(name.split(".")[:2]) for name in names if name.startswith("objectives.")}
            raise InputError(f"lr_factors names '{place}', which has no parameter; {choices(place, known)}")
