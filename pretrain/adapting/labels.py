"""Which labels the samples of a task have: read once, before its run begins."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from data.errors import InputError, SampleError
from data.label import Label, TableLabel, label_of
from data.shards.sources import open_sources
from data.store.store import Store
from modalities.labelled import Labelled
from pretrain.targets import locate

log = logging.getLogger("pretrain")


def wants_labels(node: Any, where: str, roots: tuple[str, ...]) -> bool:
    """Whether a task's ``prepare`` node asks for labels and has none.

    Raises:
        InputError: it names nothing that a config may build.
    """
    if not isinstance(node, Mapping) or node.get("labels") is not None:
        return False
    return _class_of(node, where, roots) is not None


def labels_of(task: str, source: Any, node: Mapping[str, Any], roots: tuple[str, ...], store: Store) -> list[str]:
    """All labels of a task's training samples.

    Args:
        task: its name, for messages.
        source: as the config has it.
        node: its ``prepare``.
        roots: import roots that the user trusts.
        store: where shards are read from.

    Raises:
        InputError: the source is not there, or no sample of it has a label.
    """
    kind = _class_of(node, f"tasks.{task}.prepare", roots)
    assert kind is not None
    unlabelled: list[str] = []
    names = inspect.signature(kind.learn).parameters
    named = {name for name, parameter in names.items() if parameter.kind is parameter.KEYWORD_ONLY}
    settings = {str(key): value for key, value in node.items() if key in named}
    found = kind.learn(_texts(task, source, label_of(node.get("label", "cls")), store, unlabelled), **settings)
    if not found:
        why = f" (the first: {unlabelled[0]})" if unlabelled else ""
        raise InputError(f"tasks.{task}: none of {len(unlabelled)} samples of its source has a label{why}")
    if unlabelled:
        log.warning("tasks.%s: %d samples have no label (the first: %s)", task, len(unlabelled), unlabelled[0])
    return found


def _class_of(node: Mapping[str, Any], where: str, roots: tuple[str, ...]) -> type[Labelled] | None:
    found = locate(str(node.get("_target_")), where, roots)
    return found if inspect.isclass(found) and issubclass(found, Labelled) else None


def _texts(task: str, spec: Any, reader: Label | TableLabel, store: Store, unlabelled: list[str]) -> Iterator[str]:
    for source in open_sources(task, spec, store)[0]:
        for number in range(len(source)):
            try:
                yield reader(source.read(number))
            except SampleError as error:
                shard, key = source.identity(number)
                unlabelled.append(f"'{key}' in '{shard}': {error}")
        source.close()
