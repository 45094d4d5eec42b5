"""Composes a run's config with Hydra, once, and checks it against the schema. Imports no torch."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from data.errors import InputError, choices
from pretrain import grammar, resolvers, whole
from pretrain.launchers import options as launchers
from pretrain.schema import RunConfig
from pretrain.suggestion import suggested
from pretrain.sweeps import options as sweepers
from pretrain.targets import check_trust

# Parts of a config that are built from ``_target_`` nodes; their keys are checked against what is built.
_FREE = {
    "data",
    "encoders",
    "evaluators",
    "alarms",
    "optimizer",
    "schedule",
    "weight",
    "logger",
    "prepare",
    "objective",
    "source",
    "heldout",
}


def groups(config_dir: str | None = None) -> dict[str, list[str]]:
    """Config group -> its options, from the packaged ``conf/`` and the user's own ``config_dir``."""
    found: dict[str, list[str]] = {}

    def visit(folder: Any, name: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            if entry.is_dir() and not entry.name.startswith(("_", ".")):
                visit(entry, f"{name}/{entry.name}" if name else entry.name)
            elif entry.name.endswith(".yaml") and name:
                found.setdefault(name, []).append(entry.name.removesuffix(".yaml"))

    visit(resources.files("conf"), "")
    if config_dir is not None:
        visit(Path(config_dir), "")
    return found


def compose_raw(overrides: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """The composed config with its interpolations.

    Args:
        overrides: in Hydra's grammar.
        config_dir: a folder of the user's own groups and experiments, searched besides the packaged ones.

    Raises:
        InputError: an override is malformed, names an unknown key or option, or gives a value of the wrong type.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        raise InputError(f"--config-dir '{config_dir}' is not a folder")
    resolvers.register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            return compose("train", overrides=[*overrides, *_searchpath(config_dir)])
    except RecursionError:
        raise InputError("a config file lists itself among its defaults, directly or by way of another") from None
    except yaml.YAMLError as error:
        raise InputError(f"a config file is no YAML: {' '.join(str(error).split())}") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(_explain(error, overrides, config_dir)) from None


def load(overrides: Sequence[str], config_dir: str | None = None, file: str | None = None) -> dict[str, Any]:
    """The resolved and checked config as plain dicts, lists and scalars.

    Args:
        overrides: in Hydra's grammar.
        config_dir: see :func:`compose_raw`.
        file: a whole config, such as a run's ``config.yaml``, to change instead of composing one.

    Raises:
        InputError: see :func:`compose_raw` and :func:`pretrain.whole.read`; also values that are missing.
    """
    resolved = _typed(written(overrides, config_dir, file), RunConfig, "")
    for key, kind_of in (("launcher", launchers.kind_of), ("sweeper", sweepers.kind_of)):
        resolved[key] = _typed(OmegaConf.create(resolved[key]), kind_of(resolved[key]), f"{key}.")
    check_trust(resolved, overrides)
    return resolved


def written(overrides: Sequence[str], config_dir: str | None = None, file: str | None = None) -> DictConfig:
    """The config that :func:`load` resolves and checks, with its references to other places and the environment."""
    return compose_raw(overrides, config_dir) if file is None else whole.read(file, overrides)


def _typed(node: DictConfig, schema: type, where: str) -> dict[str, Any]:
    try:
        _check_keys(node, schema, where)
        typed = OmegaConf.merge(OmegaConf.structured(schema), node)
        resolved = OmegaConf.to_container(typed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(_one_line(error, where)) from None
    assert isinstance(resolved, dict)
    _check_values(resolved, schema, where)
    return {str(key): value for key, value in resolved.items()}


def _check_values(node: Mapping[Any, Any], schema: type, where: str) -> None:
    """Refuses values outside what the schema's fields allow."""
    hints = typing.get_type_hints(schema)
    for entry in fields(schema):
        value, place = node[entry.name], f"{where}{entry.name}"
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{place}={value} is no finite number")
        if "least" in entry.metadata and value is not None and not value >= entry.metadata["least"]:
            raise InputError(f"{place}={value} is too small; it must be at least {entry.metadata['least']}")
        if "above" in entry.metadata and value is not None and not value > entry.metadata["above"]:
            raise InputError(f"{place}={value} must be above {entry.metadata['above']}, or null")
        if "check" in entry.metadata:
            entry.metadata["check"](value, place)
        if "choices" in entry.metadata and value not in entry.metadata["choices"]:
            raise InputError(f"{place} '{value}' is not there; {choices(value, entry.metadata['choices'])}")
        hint = hints[entry.name]
        if is_dataclass(hint):
            _check_values(value, typing.cast(type, hint), f"{place}.")
        elif typing.get_origin(hint) is dict and is_dataclass(typing.get_args(hint)[1]):
            for name, inner in value.items():
                _check_values(inner, typing.get_args(hint)[1], f"{place}.{name}.")


def _check_keys(node: Any, schema: type, where: str) -> None:
    """Refuses keys that the schema lacks; Hydra's own check does not cover keys that an experiment file adds."""
    hints = typing.get_type_hints(schema)
    known = [f.name for f in fields(schema)]
    for key in node:
        if key not in known:
            if not where and str(key) in groups():
                raise InputError(f"a file of the group '{key}' lacks its first line, '# @package _global_'")
            raise InputError(f"unknown key '{where}{key}'; {choices(str(key), known)}")
        hint = hints[key]
        if isinstance(hint, types.UnionType) or key in _FREE or OmegaConf.is_missing(node, key):
            continue
        if is_dataclass(hint):
            _check_keys(_mapping(node[key], f"{where}{key}"), typing.cast(type, hint), f"{where}{key}.")
        elif typing.get_origin(hint) is dict and is_dataclass(typing.get_args(hint)[1]):
            for name, inner in _mapping(node[key], f"{where}{key}").items():
                place = f"{where}{key}.{name}"
                _check_keys(_mapping(inner, place), typing.get_args(hint)[1], f"{place}.")


def _mapping(node: Any, where: str) -> Any:
    if not OmegaConf.is_dict(node):
        hint = f"; leave it out with '~{where}'" if where.startswith("tasks.") else ""
        raise InputError(f"{where} is {node!r}, but has keys of its own{hint}")
    return node


def _one_line(error: BaseException, where: str = "") -> str:
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


def _explain(error: BaseException, overrides: Sequence[str], config_dir: str | None) -> str:
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
        free = any(part in _FREE for part in full.split(".")[:-1])
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
    return _one_line(error)


def _known_keys(overrides: Sequence[str], key: str, config_dir: str | None) -> tuple[list[str], list[str]]:
    """Keys beside the unknown one, and all, in the config composed from what chooses among whole files.

    Where a key on the way is a reference to another place, one line that says so instead of those beside it.
    """
    known = groups(config_dir)
    chosen = [o for o in overrides if grammar.key_of(o).split("@")[0] in known]
    chosen += _searchpath(config_dir)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            config = compose("train", overrides=chosen)
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


def _searchpath(config_dir: str | None) -> list[str]:
    return [f"hydra.searchpath=['file://{Path(config_dir).resolve()}']"] if config_dir else []


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, config


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old, new) wherever two configs differ; an absent key counts as None."""
    a, b = dict(flatten(old)), dict(flatten(new))
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}
