"""Why a config cannot be composed, in one line. Imports no torch."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError

from data.errors import choices
from pretrain import grammar
from pretrain.composition import FREE, composed, groups
from pretrain.suggestion import suggested


def explain(error: BaseException, overrides: Sequence[str], config_dir: str | None) -> str:
    """What is wrong with ``overrides``, of which composing a config made ``error``."""
    text = str(error)
    malformed = getattr(error, "override", None)
    if malformed is not None:
        return grammar.malformed(malformed)
    unknown = re.search(
        r"Could not override '([^']+)'|Key '([^']+)' is not in struct|Could not delete from config. '([^']+)'", text
    )
    if unknown:
        key = next(part for part in unknown.groups() if part)
        given = [grammar.key_of(o) for o in overrides]
        full = key if key in given else next((k for k in given if k.startswith((f"{key}.", f"{key}@"))), key)
        group, at, place = full.partition("@")
        if at and group in groups(config_dir):
            return f"'{place}' has no {group} yet; write +{full}=... to add one"
        free = any(part in FREE for part in full.split(".")[:-1])
        hint = f" (+{full}=... gives an argument that the config file leaves out)" if free else ""
        known, everywhere = _known_keys(overrides, full, config_dir)
        if len(known) == 1 and "${" in known[0]:
            return f"'{full}' cannot be set: {known[0]}; change it there"
        return f"unknown key '{full}'; {suggested(full, known, everywhere)}{hint}"
    option = re.search(r"Could not find '([^']+)'|In '[^']+': Could not find '([^']+)'", text)
    if option:
        group, _, name = next(part for part in option.groups() if part).rpartition("/")
        return f"{group or 'config'} '{name}' does not exist; {choices(name, groups(config_dir).get(group, []))}"
    override_group = re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", text)
    if override_group:
        return f"unknown group '{override_group.group(1)}'; {choices(override_group.group(1), groups(config_dir))}"
    return one_line(error)


def _known_keys(overrides: Sequence[str], key: str, config_dir: str | None) -> tuple[list[str], list[str]]:
    """Keys beside the unknown one, and all, in the config composed from what chooses among whole files.

    Where a key on the way is a reference to another place, one line that says so instead of those beside it.
    """
    known = groups(config_dir)
    chosen = [o for o in overrides if grammar.key_of(o).split("@")[0] in known]
    try:
        config = composed(chosen, config_dir)
    except HydraException:
        return [], []
    everywhere = list(_places(typing.cast(dict[str, Any], OmegaConf.to_container(config))))
    parents = key.split(".")[:-1]
    node: Any = config
    path: list[str] = []
    for part in parents:
        if not OmegaConf.is_dict(node) or part not in node or OmegaConf.is_missing(node, part):
            break
        node = node._get_node(part)
        path.append(part)
        if node is not None and node._is_interpolation():
            return [f"{'.'.join(path)} is {node._value()}"], everywhere
    prefix = "".join(part + "." for part in path)
    return [f"{prefix}{name}" for name in node] if OmegaConf.is_dict(node) else [], everywhere


def _places(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of a config and of all that is in it."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _places(value, f"{prefix}{key}.")


def one_line(error: BaseException, where: str = "") -> str:
    """What an error of OmegaConf says, with the key it is about, which lies below ``where``."""
    if isinstance(error, InterpolationKeyError):
        wanted = re.search(r"Interpolation key '([^']+)'", str(error))
        if wanted:
            return (
                f"{error.full_key} refers to '{wanted.group(1)}', which this config does not have; "
                "an encoder of another kind than the task takes, or one left out?"
            )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), None)
    return f"{where}{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
