"""Settings of an encoder as the ``config.json`` of a published family: which of them a family can express, and how.

Each modality describes its families (``modalities/text/hf_config.py`` and so on). Nothing here knows ``transformers``:
a config.json is read and written as data.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.errors import InputError, choices
from modalities.transformer import Transformer

Settings = dict[str, Any]

ACTIVATIONS = {
    "gelu": ("gelu",),
    "tanh_gelu": ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"),
    "quick_gelu": ("quick_gelu",),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
}
"""Ours -> the same function by their names, the one to be written first."""


@dataclass
class Described:
    """An encoder as one family sees it.

    Attributes:
        family: ``bert``, ``modernbert``, ``gpt2``, ``clip_text``, ``clip_vision`` or ``wav2vec2``.
        published: what it is called in messages.
        config: keys of config.json that decide what the model computes.
        differences: settings that the family cannot express, one line each; none: it fits.
        more: further keys of config.json (dropout and so on), which need not agree.
    """

    family: str
    published: str
    config: dict[str, Any]
    differences: list[str]
    more: dict[str, Any] = field(default_factory=dict)


def settings_of(kind: type, node: Mapping[str, Any], where: str) -> Settings:
    """All settings of an encoder of class ``kind``, those that ``node`` leaves out at their defaults.

    Those of the trunk stand under ``trunk.NAME``. Choices that follow from others are made: ``trunk.final_norm``,
    ``trunk.head_width``, ``trunk.attention_bias``, ``trunk.mlp_bias`` and ``trunk.attention_dropout`` are never None.

    Args:
        kind: a packaged encoder class.
        node: its node in a config; ``_target_`` is not looked at.
        where: place of the node, for messages.

    Raises:
        InputError: an unknown or a missing setting.
    """
    given = {str(key): value for key, value in node.items() if key not in ("_target_", "trunk")}
    found = _filled(kind, given, where, {"self", "trunk"})
    own = {"width", "depth", "heads", "mlp_ratio", "dropout", "norm", "causal", "rotary"}
    trunk = _filled(Transformer, dict(node.get("trunk") or {}), f"{where}.trunk", {"self", *own})
    if trunk["final_norm"] is None:
        trunk["final_norm"] = found["norm"] == "pre" and not found.get("pooled_norm", False)
    if trunk["head_width"] is None:
        trunk["head_width"] = found["width"] // found["heads"]
    for name, whole in (
        ("attention_bias", trunk["bias"]),
        ("mlp_bias", trunk["bias"]),
        ("attention_dropout", found["dropout"]),
        ("local_rotary_base", trunk["rotary_base"]),
    ):
        trunk[name] = whole if trunk[name] is None else trunk[name]
    return found | {f"trunk.{name}": value for name, value in trunk.items()}


def _filled(kind: type, given: Mapping[str, Any], where: str, without: set[str]) -> Settings:
    parameters = {n: p for n, p in inspect.signature(kind.__init__).parameters.items() if n not in without}  # type: ignore[misc]
    for key in given:
        if key not in parameters:
            raise InputError(f"unknown key '{where}.{key}'; {choices(str(key), parameters)}")
    found = {name: given.get(name, parameter.default) for name, parameter in parameters.items()}
    for name, value in found.items():
        if value is inspect.Parameter.empty:
            raise InputError(f"{where} lacks {name}")
    return found


def unlike(settings: Settings, published: str, wanted: Mapping[str, Any]) -> list[str]:
    """A line for each setting that is not what ``published`` has; a tuple in ``wanted`` allows each of its values."""
    lines = []
    for name, needed in wanted.items():
        allowed = needed if isinstance(needed, tuple) else (needed,)
        if settings[name] not in allowed:
            lines.append(f"{name}={_yaml(settings[name])} ({published} needs {' or '.join(map(_yaml, allowed))})")
    return lines


def even_heads(settings: Settings, published: str) -> list[str]:
    """A line where heads are not as wide as ``width / heads``."""
    if settings["trunk.head_width"] * settings["heads"] == settings["width"]:
        return []
    needed = f"{published} needs width / heads = {settings['width'] / settings['heads']:g}"
    return [f"trunk.head_width={settings['trunk.head_width']} ({needed})"]


def activation(settings: Settings) -> str:
    """Their name of the activation; a gated one's is that of its inner function."""
    name = {"geglu": "gelu", "swiglu": "silu"}.get(settings["trunk.activation"], settings["trunk.activation"])
    return ACTIVATIONS[name][0] if name in ACTIVATIONS else str(name)


def hidden(settings: Settings) -> int:
    """Inner width of the perceptron."""
    return round(settings["width"] * settings["mlp_ratio"])


def disagreements(mine: Mapping[str, Any], theirs: Mapping[str, Any], default: Mapping[str, Any]) -> list[str]:
    """``key: theirs, mine`` lines where a config.json says something else than the encoder is.

    Args:
        mine: :attr:`Described.config` of the encoder.
        theirs: a config.json, as it was read.
        default: what a key that it leaves out means.
    """
    lines = []
    for key, value in mine.items():
        other = theirs.get(key, default.get(key, value))
        if other is None:
            other = default.get(key, value)
        if not _same(value, other):
            lines.append(f"{key} is {other!r} there and {value!r} here")
    return lines


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, str) and isinstance(theirs, str):
        return mine == theirs or any(mine in names and theirs in names for names in ACTIVATIONS.values())
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        return list(mine) == list(theirs)
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return all(_same(value, theirs.get(key, value)) for key, value in mine.items())
    return bool(mine == theirs)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
