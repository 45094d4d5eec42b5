"""What a disk may hold after a crash: operations are recorded as they happen, and replayed up to any of them.

The model is the least that POSIX promises. Data of a file is on disk once that file was fsynced; a name is on disk once
its folder was. What was not may be there, in whole or in part, as zeros, or not at all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Operation:
    """One change: its kind, the folder or file that it changes (numbers of the model), and what it does."""

    kind: str
    where: int
    what: Any = None


@dataclass
class Recorder:
    """Records what this process does below ``root`` through :mod:`os`, from all of its threads, in order.

    The folder must exist; what is in it is part of the beginning.
    """

    root: Path
    operations: list[Operation] = field(default_factory=list)
    marks: dict[int, list[Any]] = field(default_factory=dict)
    _nodes: dict[str, int] = field(default_factory=dict)
    _handles: dict[int, int] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.RLock)

    def mark(self, what: Any) -> None:
        """From here on ``what`` is promised."""
        with self._lock:
            self.marks.setdefault(len(self.operations), []).append(what)

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Within, operations are recorded."""
        self._nodes[""] = 0
        names = ("open", "close", "write", "fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir")
        real = {name: getattr(os, name) for name in names}
        self._real = real
        try:
            for name in names:
                method = {"replace": "rename", "remove": "unlink"}.get(name, name)
                setattr(os, name, getattr(self, f"_{method}"))
            yield self
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def _key(self, path: Any) -> str | None:
        text, root = os.path.abspath(os.fspath(path)), str(self.root)
        if text == root:
            return ""
        return text[len(root) + 1 :] if text.startswith(root + "/") else None

    def _folder(self, key: str) -> tuple[int, str]:
        above, _, name = key.rpartition("/")
        return self._nodes[above], name

    def _add(self, kind: str, where: int, what: Any = None) -> None:
        self.operations.append(Operation(kind, where, what))

    def _new(self, key: str, kind: str) -> None:
        folder, name = self._folder(key)
        self._nodes[key] = number = 1 + max(self._nodes.values(), default=0) + len(self.operations)
        self._add("link", folder, (name, number, kind))

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        assert dir_fd is None
        with self._lock:
            key = self._key(path)
            new = key is not None and not os.path.lexists(path)
            handle: int = self._real["open"](path, flags, mode)
            if key is not None:
                assert not flags & os.O_TRUNC, "not modelled"
                if new:
                    self._new(key, "file")
                self._handles[handle] = self._nodes[key]
            return handle

    def _close(self, handle: int) -> None:
        with self._lock:
            self._handles.pop(handle, None)
            self._real["close"](handle)

    def _write(self, handle: int, data: Any) -> int:
        with self._lock:
            count: int = self._real["write"](handle, data)
            if handle in self._handles:
                self._add("write", self._handles[handle], bytes(memoryview(data)[:count]))
            return count

    def _fsync(self, handle: int) -> None:
        with self._lock:
            self._real["fsync"](handle)
            if handle in self._handles:
                self._add("fsync", self._handles[handle])

    def _rename(self, old: Any, new: Any) -> None:
        with self._lock:
            self._real["rename"](old, new)
            before, after = self._key(old), self._key(new)
            if before is None or after is None:
                assert before is after is None
                return
            (folder, a), (other, b) = self._folder(before), self._folder(after)
            assert folder == other, "not modelled"
            self._nodes = {k: n for k, n in self._nodes.items() if k != after and not k.startswith(after + "/")}
            moved = {k for k in self._nodes if k == before or k.startswith(before + "/")}
            self._nodes |= {after + key[len(before) :]: self._nodes.pop(key) for key in moved}
            self._add("rename", folder, (a, b))

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._gone("unlink", path, dir_fd)

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._gone("rmdir", path, dir_fd)

    def _gone(self, how: str, path: Any, dir_fd: int | None) -> None:
        assert dir_fd is None
        with self._lock:
            self._real[how](path)
            key = self._key(path)
            if key is not None:
                folder, name = self._folder(key)
                del self._nodes[key]
                self._add("unlink", folder, name)

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        assert dir_fd is None
        with self._lock:
            self._real["mkdir"](path, mode)
            key = self._key(path)
            if key is not None:
                self._new(key, "folder")


@dataclass
class Node:
    """A file or folder: what is on disk, and what was done to it since."""

    kind: str
    durable: Any
    pending: list[Any] = field(default_factory=list)


Tree = dict[str, bytes | None]
"""Path -> content; None for a folder."""


class Disk:
    """The model's disk; starts as an empty folder."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {0: Node("folder", {})}

    def do(self, operation: Operation) -> None:
        """Applies one operation."""
        node = self.nodes[operation.where]
        if operation.kind == "fsync":
            node.durable = self._folder(node, len(node.pending)) if node.kind == "folder" else _data(node, "kept")
            node.pending = []
            return
        if operation.kind == "link":
            _, number, kind = operation.what
            self.nodes[number] = Node(kind, {} if kind == "folder" else b"")
        node.pending.append((operation.kind, operation.what))

    def _folder(self, node: Node, count: int) -> dict[str, int]:
        names = dict(node.durable)
        for kind, what in node.pending[:count]:
            if kind == "link":
                names[what[0]] = what[1]
            elif kind == "unlink":
                names.pop(what, None)
            elif what[0] in names:
                names[what[1]] = names.pop(what[0])
        return names

    def tree(self, data: str, counts: dict[int, int]) -> Tree:
        """What is there after a power loss.

        Args:
            data: what became of data that was not synced: ``kept``, ``lost``, ``torn`` or ``zeros``.
            counts: folder -> how many of its pending changes are on disk; all where it is not named.
        """
        tree: Tree = {}
        self._walk(0, "", data, counts, tree)
        return tree

    def _walk(self, number: int, at: str, data: str, counts: dict[int, int], tree: Tree) -> None:
        node = self.nodes[number]
        if node.kind == "file":
            tree[at] = _data(node, data)
            return
        if at:
            tree[at] = None
        for name, child in self._folder(node, counts.get(number, len(node.pending))).items():
            self._walk(child, f"{at}/{name}" if at else name, data, counts, tree)

    def losses(self) -> Iterator[tuple[str, dict[int, int]]]:
        """All that a power loss now may do: each way with data, times how far each folder's changes have come."""
        folders = {n: len(node.pending) for n, node in self.nodes.items() if node.kind == "folder" and node.pending}
        choices: list[dict[int, int]] = [{}, dict.fromkeys(folders, 0)]
        for folder, length in folders.items():
            others = dict.fromkeys(folders.keys() - {folder}, 0)
            for count in range(length + 1):
                choices += [{folder: count}, others | {folder: count}]
        for data in ("kept", "lost", "torn", "zeros"):
            yield from ((data, counts) for counts in choices)


def _data(node: Node, fate: str) -> bytes:
    new = b"".join(what for _, what in node.pending)
    if fate == "lost":
        new = b""
    elif fate == "torn":
        new = new[: len(new) // 2]
    elif fate == "zeros":
        new = bytes(len(new))
    return bytes(node.durable) + new


def write_tree(tree: Tree, root: Path) -> None:
    """Makes ``tree`` real in the empty folder ``root``."""
    for path in sorted(tree):
        content = tree[path]
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def read_tree(root: Path) -> Tree:
    """What is really below ``root``."""
    return {str(p.relative_to(root)): None if p.is_dir() else p.read_bytes() for p in sorted(root.rglob("*"))}
