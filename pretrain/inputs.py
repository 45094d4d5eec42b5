"""How the inputs of an encoder are prepared where no objective asks for anything more."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from data.errors import InputError, choices
from pretrain.targets import locate


def plain_node(
    tasks: Mapping[str, Any], encoder: str, roots: tuple[str, ...], changed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The config of what prepares inputs of ``encoder``: that of its first task, without masks and labels.

    Args:
        tasks: the config's tasks.
        encoder: name of the encoder.
        roots: import roots that the user trusts.
        changed: arguments that are to be others.

    Raises:
        InputError: no task has the encoder, or what prepares for it takes no such argument.
    """
    for task, spec in tasks.items():
        for side, name in spec["encoders"].items():
            if name == encoder:
                part = spec["prepare"].get(side)
                if isinstance(part, Mapping):
                    return _plain(part, f"tasks.{task}.prepare.{side}", roots, changed or {})
                return _plain(spec["prepare"], f"tasks.{task}.prepare", roots, changed or {})
    raise InputError(f"encoder '{encoder}' has no task that says how its inputs are prepared")


def _plain(node: Mapping[str, Any], where: str, roots: tuple[str, ...], changed: Mapping[str, Any]) -> dict[str, Any]:
    target = locate(str(node["_target_"]), where, roots)
    plain: type = getattr(target, "plain", target)
    names = list(inspect.signature(plain).parameters)
    for key in changed:
        if key not in names:
            raise InputError(f"{where} takes no {key}; {choices(key, names)}")
    kept = {key: value for key, value in node.items() if key in names}
    return {"_target_": f"{plain.__module__}.{plain.__qualname__}", **kept, **changed}


def loose_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """The same for what comes from no shard: a text is the whole of a member ``txt``."""
    return {**node, "member": "txt", "field": None} if "member" in node else dict(node)
