"""Shard patterns: what a user writes for a set of shards, and the files that it means."""

from __future__ import annotations

import glob
import os
import re

import braceexpand

from data.errors import InputError

_SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|pipe:)")
_SHOWN = 5


def expand(pattern: str | list[str]) -> list[str]:
    """The shards that ``pattern`` names, as paths; sorted within a glob or folder, otherwise in the order written.

    A pattern is a path, a folder (all ``*.tar`` in it), a glob (``**`` too), a brace expression such as
    ``shard-{000000..000009}.tar``, or several of these joined by ``::``. ``~`` is the home folder. A shard that is
    named twice is taken once.

    Raises:
        InputError: a part matches nothing, or is not a local path.
    """
    parts = [part for one in ([pattern] if isinstance(pattern, str) else pattern) for part in one.split("::")]
    found: dict[str, None] = {}
    for part in parts:
        if not part:
            raise InputError(f"empty part in the shard pattern '{pattern}'")
        if _SCHEME.match(part):
            raise InputError(f"shards '{part}': not supported yet: local paths only")
        for path in _braces(part):
            found.update(dict.fromkeys(_files(os.path.expanduser(path), part)))
    if not found:
        raise InputError("no shard pattern is given")
    return list(found)


def _braces(part: str) -> list[str]:
    if os.path.exists(os.path.expanduser(part)):  # braces may stand in a name
        return [part]
    try:
        return list(braceexpand.braceexpand(part, escape=False))
    except ValueError:
        raise InputError(f"shards '{part}': unbalanced braces; write e.g. shard-{{000000..000009}}.tar") from None


def _files(path: str, part: str) -> list[str]:
    if os.path.isfile(path):  # before the glob, so that a name with brackets is found
        return [path]
    if os.path.isdir(path):
        found = glob.glob(os.path.join(glob.escape(path), "*.tar"))
    else:
        found = [hit for hit in glob.glob(path, recursive=True) if os.path.isfile(hit)]
    if not found:
        asked = f"'{part}'" if path == part else f"'{part}' ('{path}')"
        raise InputError(f"shards {asked} match nothing: {_holds(path)}")
    return sorted(found)


def _holds(path: str) -> str:
    """What the nearest existing folder on the way to ``path`` holds, in words."""
    folder = path
    while not os.path.isdir(folder or "."):
        folder = os.path.dirname(folder)
    folder = folder or "."
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    shown = [name for name in names if name.endswith(".tar")] or names
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"'{folder}' holds {', '.join(shown[:_SHOWN]) + more if shown else 'nothing'}"
