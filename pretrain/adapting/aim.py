"""Tasks of ``conf/task`` are written for ``encoders.text`` and so on; a run's encoders have names of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data.errors import InputError

_SETTING = re.compile(r"\$\{encoders\.(?P<encoder>[^.{}]+)\.(?P<key>[^{}]+)\}")


def aimed(modalities: Mapping[str, str], written: Callable[[], DictConfig]) -> list[str]:
    """Overrides by which tasks take the encoders that there are, and follow their settings.

    Args:
        modalities: encoder that the run brings -> its modality.
        written: composes the config, with its references; called only where encoders are not named by modality.

    Raises:
        InputError: a task may mean several encoders, or follows a setting that its encoder lacks.
    """
    if set(modalities.values()) <= set(modalities):
        return []
    whole: Any = OmegaConf.to_container(written(), resolve=False)
    found = []
    for task, spec in whole["tasks"].items():
        names = {}
        for side, name in spec["encoders"].items():
            names[name] = name if name in whole["encoders"] else _only(modalities, name, f"tasks.{task}", side)
            if names[name] != name:
                found.append(f"tasks.{task}.encoders.{side}={names[name]}")
        for place, encoder, key in _settings(spec, f"tasks.{task}"):
            # A task of one side follows that side's encoder, also where the command line has named it.
            name = names.get(encoder) or (next(iter(names.values())) if len(names) == 1 else encoder)
            if encoder in whole["encoders"] or name not in whole["encoders"]:
                continue
            if key not in whole["encoders"][name]:
                raise InputError(
                    f"{place} follows the '{key}' of its encoder, which encoders.{name} has not; give {place}=VALUE"
                )
            found.append(f"{place}=${{encoders.{name}.{key}}}")
    return found


def _only(modalities: Mapping[str, str], wanted: str, task: str, side: str) -> str:
    """The run's encoder of the modality ``wanted``; ``wanted`` itself where there is none."""
    found = [name for name, kind in modalities.items() if kind == wanted]
    if len(found) > 1:
        raise InputError(f"{task} may take {' or '.join(found)}; say which: {task}.encoders.{side}={found[0]}")
    return found[0] if found else wanted


def _settings(node: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Places below ``node`` that are the setting of an encoder: (place, encoder, setting)."""
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield from _settings(inner, f"{where}.{key}")
    elif isinstance(node, str) and (found := _SETTING.fullmatch(node)):
        yield where, found["encoder"], found["key"]
