"""What an adaptation begins with: a run's encoders as overrides, or a folder of ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain.export.incoming import FAMILIES, concerns, open_folder
from pretrain.export.tokenizer import FILE
from pretrain.grammar import quoted
from pretrain.targets import locate
from pretrain.trained import Trained

_MODALITIES = {"clip_text": "text", "clip_vision": "image", "wav2vec2": "audio"}
_CARRIED = ("_target_", "tokenizer", "sample_rate")
"""Of what prepares an encoder's inputs: what decides on their meaning. The rest says where they are and how many."""


@dataclass
class Origin:
    """Where first weights come from, as a config says it.

    Attributes:
        name: short.
        overrides: ``init_from``, encoders, tokenizer.
        modalities: encoder -> its modality, as far as it is known.
        carried: encoder -> arguments of what prepares its inputs that must stay as they were.
        advice: what to add where there is no encoder yet.
    """

    name: str
    overrides: list[str]
    modalities: dict[str, str] = field(default_factory=dict)
    carried: dict[str, dict[str, Any]] = field(default_factory=dict)
    advice: str = ""


def origin_of(place: str, roots: tuple[str, ...] = ()) -> Origin:
    """What ``place`` brings.

    Args:
        place: run directory (its newest sound checkpoint), step-XXXXXXXX folder, or folder of ``transformers``.
        roots: import roots that the user trusts.

    Raises:
        InputError: there is nothing of that kind, its config is none that was resolved, or names what is not trusted.
    """
    return _of_folder(place) if concerns(place) else _of_run(place, roots)


def _of_run(place: str, roots: tuple[str, ...]) -> Origin:
    trained = Trained(place, roots=roots)
    # One checkpoint, by name: the run may train on, and what this run begins with must not change.
    overrides = [f"init_from={written(str(trained.reader.path), 'init_from')}"]
    carried, modalities = {}, {}
    for name in trained.encoders:
        node = dict(trained.config["encoders"][name])
        if "weights" in node:
            node["weights"] = None  # what a foreign module began with: the checkpoint has them all
        overrides.append(f"+encoders.{name}={written(node, f'encoders.{name}')}")
        inputs = trained.prepare_node(name)
        carried[name] = {key: inputs[key] for key in _CARRIED if key in inputs}
        modalities[name] = str(getattr(locate(str(node.get("_target_")), f"encoders.{name}", roots), "modality", ""))
    tokenizers = {str(one["tokenizer"]): None for one in carried.values() if one.get("tokenizer")}
    if len(tokenizers) == 1:
        overrides.append(f"data.tokenizer={written(next(iter(tokenizers)), 'tokenizer')}")
    path = trained.run.path if trained.run is not None else Path(place)
    return Origin(path.resolve().name, overrides, modalities, carried)


def _of_folder(place: str) -> Origin:
    folder = open_folder(place)
    overrides = [f"init_from={written(place, 'init_from')}"]
    if (folder.path / FILE).is_file():
        overrides.append(f"data.tokenizer={written(str(folder.path / FILE), 'tokenizer')}")
    families = FAMILIES[folder.model_type]
    kinds = [_MODALITIES.get(family, "text") for family in families]
    advice = " or ".join(f"+encoder@encoders.{kind}=..." for kind in kinds)
    return Origin(folder.path.resolve().name, overrides, advice=advice)


def written(value: Any, where: str) -> str:
    """``value`` in the grammar of overrides.

    Raises:
        InputError: it holds a reference to another place, which no resolved config does.
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(inner, f'{where}.{key}')}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(inner, where) for inner in value) + "]"
    if isinstance(value, str):
        if "${" in value:
            raise InputError(f"{where} is {value!r}, which refers to something else; a checkpoint's config is resolved")
        return quoted(value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)
