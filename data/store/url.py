"""Names of shards: local paths and URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

LISTED = ("s3", "gs", "az")
"""Schemes of object stores, whose keys are plain text and can be listed by prefix."""
REMOTE = (*LISTED, "http", "https")
SCHEMES = (*REMOTE, "file", "pipe")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BATCH = 4096
_JOINT = re.compile(r"::(?![\w:.%]*\])")
"""Between the parts of a pattern, but not within the brackets of ``http://[::1]:80/``."""


def parts(pattern: str) -> list[str]:
    """What ``::`` joins, without blanks around it."""
    return [part.strip() for part in _JOINT.split(pattern)]


def scheme(name: str) -> str:
    """``s3``, ``https``, ``file``, ``pipe``, ...; "" for a path."""
    if name.startswith("pipe:"):
        return "pipe"
    if name.startswith("file:"):
        return "file"
    hit = _SCHEME.match(name)
    return hit[1].lower() if hit else ""


def remote(name: str) -> bool:
    """Whether it must be transferred before it can be read."""
    return scheme(name) in (*REMOTE, "pipe")


def packed(name: str) -> bool:
    """Whether it is a gzip file, by its name."""
    return scheme(name) != "pipe" and base(name).lower().endswith((".tar.gz", ".tgz"))


def local(name: str) -> str:
    """The path that a path or ``file:`` URL means."""
    if scheme(name) != "file":
        return name
    if not name.startswith("file://"):
        return name.removeprefix("file:")
    _, slash, path = name.removeprefix("file://").partition("/")  # by hand: a name may hold '?' and '#'
    return unquote(slash + path)


def absolute(name: str) -> bool:
    """Whether the name means the same from everywhere."""
    return name[:1] == "/" or "://" in name or name.startswith(("pipe:", "file:"))


def identities(names: Iterable[str]) -> Iterator[str]:
    """For each name what is the same for all spellings of a local path: ``a.tar``, ``./a.tar``, ``file:/x/../x/a.tar``.

    Links are not followed. A remote name has one spelling.
    """
    folders: dict[str, str] = {}
    for name in names:
        if remote(name):
            yield name
            continue
        path = local(name)
        place, slash, last = path.rpartition("/")
        if last in ("", ".", ".."):
            place, slash, last = path, "/", ""
        if (known := folders.get(place + slash)) is None:  # few folders hold many shards
            known = folders[place + slash] = "/" + os.path.abspath(place + slash).strip("/") + "/"
        yield known + last


def distinct(names: Sequence[str]) -> bool:
    """Whether sorted names, of which none comes twice or is empty, are seen at a glance to name different things."""
    if not names:
        return True
    ends = names[0], names[-1]
    if remote(ends[0]) and ends[1].startswith(ends[0].partition(":")[0] + ":"):  # and so are all between them
        return True
    sep = "\n" if ends[0][0] == ends[1][0] == "/" else "/"  # before each name, so that one of the other kind gives "//"
    batches = (sep + sep.join(names[at : at + _BATCH]) for at in range(0, len(names), _BATCH))
    return not any(mark in batch for batch in batches for mark in ("//", "/.", "file:"))


def bare(name: str) -> str:
    """The name without a query, which may be a signature: what it ends with says what it is."""
    return name.partition("?")[0] if scheme(name) in ("http", "https") else name


def folder(name: str) -> str:
    """What stands before the base name, with its slash; "" for a bare name."""
    path = bare(name)
    return path[: path.rfind("/") + 1]


def base(name: str) -> str:
    """The base name of a shard, without a query."""
    return os.path.basename(bare(name).rstrip("/"))


def shown(name: str) -> str:
    """The name for messages: a query may hold a signature, and a host part a password."""
    if scheme(name) not in ("http", "https"):
        return name
    return re.sub(r"^([a-z]+://)[^/@]*@", r"\1", bare(name), flags=re.IGNORECASE)
