"""A config that was composed before and stands in one file: changed by overrides, not composed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from data.errors import InputError, choices
from pretrain.grammar import parse


def read(file: str, overrides: Sequence[str]) -> DictConfig:
    """The config in ``file``, with what ``overrides`` change.

    Args:
        file: of a run (``config.yaml``), or what ``--cfg job`` printed.
        overrides: ``KEY=VALUE`` alone; groups were chosen when it was composed.

    Raises:
        InputError: it cannot be read, or a key is not in it.
    """
    found = whole(file, f"--config '{file}'")
    OmegaConf.set_struct(found, True)
    for one in parse(overrides):
        key = one.get_key_element()
        if one.type is not OverrideType.CHANGE or one.is_sweep_override() or one.package is not None:
            raise InputError(f"'{one.input_line}' cannot change --config '{file}'; choices: KEY=VALUE")
        if isinstance(OmegaConf.select(found, key, throw_on_missing=False), DictConfig):
            raise InputError(f"'{one.input_line}' cannot change --config '{file}': '{key}' has keys of its own")
        try:
            OmegaConf.update(found, key, one.value(), merge=False, force_add=False)
        except (ConfigKeyError, ConfigAttributeError):
            parent = OmegaConf.select(found, key.rpartition(".")[0], throw_on_missing=False) if "." in key else found
            known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
            prefix = key.rpartition(".")[0] + "." if "." in key else ""
            raise InputError(f"--config '{file}' has no '{key}'; {choices(key, [prefix + k for k in known])}") from None
        except OmegaConfBaseException as error:
            raise InputError(f"--config '{file}': {key}: {str(error).splitlines()[0]}") from None
    return found


def whole(file: str, name: str) -> DictConfig:
    """The config in ``file``, as it stands there.

    Args:
        file: see :func:`read`.
        name: of it, for messages.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        found = OmegaConf.load(Path(file).expanduser())
    except FileNotFoundError:
        raise InputError(f"{name} is not there") from None
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, DictConfig) or not isinstance(found.get("tasks"), DictConfig):
        raise InputError(f"{name} is not the config of a run, which has tasks")
    before: dict[str, Any] = {"launcher": {"kind": "local"}, "sweeper": {"kind": "grid"}}
    before["lora"] = {"rank": None, "alpha": 1.0, "layers": []}
    for key, only in before.items():
        found.setdefault(key, only)  # of a run from before there was a choice
    return found
