"""The sources of a task, from what a config says about them."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Mapping

from braceexpand import braceexpand

from data.errors import InputError
from data.shards.source import Source
from data.store.store import Store
from data.store.url import absolute, parts

SourceSpec = str | list[str] | Mapping[str, object]
_KEYS = {"pattern", "weight"}


def open_sources(task: str, spec: SourceSpec, store: Store) -> tuple[list[Source], list[float]]:
    """Sources and their weights from a config value.

    ``spec`` is a pattern, a list of patterns (one source), or a mapping of source names to a pattern or to
    ``{pattern: ..., weight: ...}``.

    Raises:
        InputError: a source matches nothing, is empty, or has an unknown key.
    """
    if not isinstance(spec, Mapping):
        return [Source(task, _pattern(task, spec), store)], [1.0]
    if not spec:
        raise InputError(f"task '{task}': source is an empty mapping; give at least one pattern")
    sources, weights = [], []
    for name in spec:
        if not isinstance(name, str) or "/" in name or not name:  # YAML takes an unquoted no for false
            raise InputError(f"task '{task}': the name of a source must be a text in quotes without '/', got {name!r}")
    for name, entry in sorted(spec.items()):  # the order of a mapping's keys is not the order of data
        fields = dict(entry) if isinstance(entry, Mapping) else {"pattern": entry}
        unknown = sorted(set(fields) - _KEYS)
        if unknown or "pattern" not in fields:
            raise InputError(f"task '{task}': source '{name}' takes pattern and weight, got {sorted(fields)}")
        weight = fields.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InputError(f"task '{task}': source '{name}' has the weight {weight!r}, which is no number")
        if not 0 < weight < math.inf:
            raise InputError(f"task '{task}': source '{name}' has the weight {weight:g}; it must be above 0")
        sources.append(Source(f"{task}.{name}", _pattern(f"{task}.{name}", fields["pattern"]), store))
        weights.append(float(weight))
    return sources, weights


def seen_from(folder: str, spec: SourceSpec) -> SourceSpec:
    """``spec`` as it was meant in ``folder``: what is local, relative and not here is taken from there.

    Args:
        folder: absolute.
        spec: as :func:`open_sources` takes it.
    """
    if isinstance(spec, str):
        return "::".join(_from(folder, part) for part in parts(spec))
    if isinstance(spec, list):
        return [str(seen_from(folder, part)) for part in spec]
    found: dict[str, object] = {}
    for name, entry in spec.items():
        if isinstance(entry, Mapping) and isinstance(entry.get("pattern"), str | list):
            found[name] = {**entry, "pattern": seen_from(folder, entry["pattern"])}
        else:
            found[name] = seen_from(folder, entry) if isinstance(entry, str | list) else entry
    return found


def _from(folder: str, part: str) -> str:
    path = os.path.expanduser(part)
    if not part or absolute(path) or _here(path):
        return part
    return os.path.join(glob.escape(folder) if glob.has_magic(part) else folder, part)


def _here(path: str) -> bool:
    """Whether the first of the names that ``path`` stands for matches anything."""
    try:
        first = path if os.path.exists(path) else next(iter(braceexpand(path, escape=False)))
    except ValueError:
        return True  # unbalanced braces, as who opens it will say
    return os.path.exists(first) or next(glob.iglob(first, recursive=True), None) is not None


def _pattern(name: str, value: object) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    raise InputError(f"source '{name}' is {value!r}; give a pattern, a list of patterns, or names with a pattern each")
