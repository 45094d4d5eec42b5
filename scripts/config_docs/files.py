"""What stands in a YAML file of ``conf/``: keys, values as they are written, and the comments beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

PACKAGE = "@package"


@dataclass
class Entry:
    """One key.

    Attributes:
        key: dotted place in the file.
        value: as it is written; None for a mapping whose keys follow.
        comment: what stands behind it on its line, and on lines of their own above it.
    """

    key: str
    value: str | None
    comment: str = ""


@dataclass
class File:
    """One file.

    Attributes:
        about: the comment at its head.
        everywhere: whether its keys are those of the whole config (``@package _global_``) instead of a part's.
        defaults: what it is made of, as written.
        entries: its keys, in order.
        targets: dotted place of a ``_target_`` node -> what it names.
    """

    about: list[str]
    everywhere: bool = False
    defaults: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> File:
    """The file at ``path``.

    Raises:
        ValueError: a comment stands where no key is that it could belong to.
    """
    text = path.read_text(encoding="utf-8")
    beside, above, head = _comments(text)
    found = File(
        [line for line in head if not line.startswith(PACKAGE)], any(line.startswith(PACKAGE) for line in head)
    )
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and root.value:
        _walk(root, "", text, found, beside, above)
    left = [line for lines in above.values() for line in lines] + list(beside.values())
    if left:
        raise ValueError(f"{path.name}: no key has the comment {left[0]!r}")
    return found


def _comments(text: str) -> tuple[dict[int, str], dict[int, list[str]], list[str]]:
    """Line -> the comment behind what stands there; line -> comments on lines above it; those above everything."""
    ends: dict[int, int] = {}
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if token.end_mark.index > token.start_mark.index:
            ends[token.end_mark.line] = max(ends.get(token.end_mark.line, 0), token.end_mark.column)
    beside: dict[int, str] = {}
    above: dict[int, list[str]] = {}
    head: list[str] = []
    waiting: list[str] = []
    begun = False
    for number, line in enumerate(text.splitlines()):
        rest = line[ends.get(number, 0) :].strip()
        comment = rest.removeprefix("#").strip() if rest.startswith("#") else ""
        if number in ends:
            if waiting:
                above[number], waiting = waiting, []
            if comment:
                beside[number] = comment
            begun = True
        elif comment:
            (waiting if begun else head).append(comment)
    if waiting:
        above[-1] = waiting
    return beside, above, head


def _walk(
    node: yaml.MappingNode, prefix: str, text: str, found: File, beside: dict[int, str], above: dict[int, list[str]]
) -> None:
    for name, value in node.value:
        key = f"{prefix}.{name.value}" if prefix else name.value
        if key == "defaults":
            found.defaults = [" ".join(_written(one, text).split()) for one in value.value]
            continue
        block = isinstance(value, yaml.MappingNode) and not value.flow_style and value.value
        lines = above.pop(name.start_mark.line, [])
        last = name.end_mark.line if block else value.end_mark.line
        if not block and isinstance(value, yaml.CollectionNode) and not value.flow_style:
            last = name.end_mark.line
        comment = " ".join([*lines, beside.pop(last, "")]).strip()
        if name.value == "_target_":
            found.targets[prefix] = value.value
        found.entries.append(Entry(key, None if block else _written(value, text), comment))
        if block:
            _walk(value, key, text, found, beside, above)


def _written(node: yaml.Node, text: str) -> str:
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())
