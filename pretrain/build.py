"""Config nodes -> objects. A node is a mapping with ``_target_``, the dotted name of a class or function.

Own rather than Hydra's ``instantiate`` for two reasons: a wrong key is reported with its place in the config and the
nearest right one, and a config can only name things below roots that the user trusts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from data.errors import InputError, choices
from pretrain.targets import check_arguments, locate

__all__ = ["locate", "make"]


def make(node: Mapping[str, Any], where: str, roots: tuple[str, ...] = (), **extra: Any) -> Any:
    """Builds what ``node`` describes, nested nodes first.

    Args:
        node: a mapping with ``_target_``; its other keys are arguments.
        where: place in the config, for messages (``tasks.mlm.objective``).
        roots: import roots that the user trusts beyond :data:`pretrain.targets.ROOTS` (config key ``trusted_roots``).
        extra: further arguments, given only where the target takes them.

    Raises:
        InputError: unknown target, argument missing or unknown, or the target refuses its arguments.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{where} lacks _target_, the dotted name of what to build")
    target = locate(str(node["_target_"]), where, roots)
    arguments = {str(key): _value(value, f"{where}.{key}", roots) for key, value in node.items() if key != "_target_"}
    check_arguments(target, arguments, where)
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        raise InputError(f"{where}._target_ '{node['_target_']}' does not say which arguments it takes") from None
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    arguments |= {key: value for key, value in extra.items() if key in names and key not in arguments}
    if not open_ended:
        for key in arguments:
            if key not in names:
                raise InputError(f"unknown key '{where}.{key}'; {choices(key, names)}")
    missing = [n for n in names if parameters[n].default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)} (of {node['_target_']})")
    try:
        return target(**arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key in node and _plain(value))
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{where}: {node['_target_']} refuses {given}: {reason}") from error


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)


def _value(value: Any, where: str, roots: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return make(value, where, roots)
        return {key: _value(inner, f"{where}.{key}", roots) for key, inner in value.items()}
    if isinstance(value, list):
        return [_value(inner, f"{where}[{n}]", roots) for n, inner in enumerate(value)]
    return value
