"""Composes a run's config with Hydra, once, and checks it against the schema. Imports no torch."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import InputError, choices
from pretrain import resolvers, whole
from pretrain.composition import FREE, composed, groups
from pretrain.launchers import options as launchers
from pretrain.refusal import explain, one_line
from pretrain.schema import RunConfig
from pretrain.sweeps import options as sweepers
from pretrain.targets import check_trust


def compose_raw(overrides: Sequence[str], config_dir: str | None = None, base: DictConfig | None = None) -> DictConfig:
    """The composed config with its interpolations.

    Args:
        overrides: in Hydra's grammar.
        config_dir: a folder of the user's own groups and experiments, searched besides the packaged ones.
        base: a whole config to begin with instead of the packaged one.

    Raises:
        InputError: an override is malformed, names an unknown key or option, or gives a value of the wrong type.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        raise InputError(f"--config-dir '{config_dir}' is not a folder")
    resolvers.register()
    try:
        return composed(overrides, config_dir, base)
    except RecursionError:
        raise InputError("a config file lists itself among its defaults, directly or by way of another") from None
    except yaml.YAMLError as error:
        raise InputError(f"a config file is no YAML: {' '.join(str(error).split())}") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(explain(error, overrides, config_dir)) from None


def load(overrides: Sequence[str], config_dir: str | None = None, file: str | None = None) -> dict[str, Any]:
    """The resolved and checked config as plain dicts, lists and scalars.

    Args:
        overrides: in Hydra's grammar.
        config_dir: see :func:`compose_raw`.
        file: a whole config, such as a run's ``config.yaml``, to change instead of composing one.

    Raises:
        InputError: see :func:`compose_raw` and :func:`pretrain.whole.read`; also values that are missing.
    """
    return checked(written(overrides, config_dir, file), overrides)


def checked(node: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """``node`` resolved and checked, as plain dicts, lists and scalars.

    Args:
        node: a config with its interpolations.
        overrides: of the command line, which alone says whom the user trusts.

    Raises:
        InputError: a value is missing, of the wrong type or too small, or a file permits itself what it cannot.
    """
    resolved = _typed(node, RunConfig, "")
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
        raise InputError(one_line(error, where)) from None
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
                raise InputError(
                    f"a file of the group '{key}' lacks its first line, '# @package _global_', or has a byte order "
                    "mark in front of it"
                )
            raise InputError(f"unknown key '{where}{key}'; {choices(str(key), known)}")
        hint = hints[key]
        if isinstance(hint, types.UnionType) or key in FREE or OmegaConf.is_missing(node, key):
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
