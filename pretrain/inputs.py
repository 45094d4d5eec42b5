"""How the inputs of an encoder are prepared where no objective asks for anything more."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from data.errors import InputError, choices
from pretrain.targets import locate


def plain_node(
    tasks: Mapping[str, Any],
    encoder: str,
    roots: tuple[str, ...],
    changed: Mapping[str, Any] | None = None,
    beside: Collection[str] = (),
    joint: bool = False,
) -> dict[str, Any]:
    """The config of what prepares inputs of ``encoder``, without masks and labels: that of one of its tasks.

    Tasks may read other members for one encoder, prose and captions. That of a task which has all encoders of
    ``beside`` is taken before others; then one of several sides if the joint space is asked for, else one of a single
    side; then the first.

    Args:
        tasks: the config's tasks.
        encoder: name of the encoder.
        roots: import roots that the user trusts.
        changed: arguments that are to be others.
        beside: encoders that are used together with it.
        joint: whether its place in a joint space is asked for.

    Raises:
        InputError: no task has the encoder, or what prepares for it takes no such argument.
    """
    names = {task: set(spec["encoders"].values()) for task, spec in tasks.items()}
    own = [task for task in tasks if encoder in names[task]]
    if not own:
        raise InputError(f"encoder '{encoder}' has no task that says how its inputs are prepared")
    task = max(own, key=lambda task: (set(beside) <= names[task], (len(names[task]) > 1) == joint))
    side = next(side for side, name in tasks[task]["encoders"].items() if name == encoder)
    prepare = tasks[task]["prepare"]
    if isinstance(prepare.get(side), Mapping):
        return _plain(prepare[side], f"tasks.{task}.prepare.{side}", roots, changed or {})
    return _plain(prepare, f"tasks.{task}.prepare", roots, changed or {})


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
