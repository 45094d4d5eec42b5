"""The sources of a task, from what a config says about them."""

from __future__ import annotations

from collections.abc import Mapping

from data.errors import InputError
from data.shards.source import Source
from data.store.store import Store

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
    for name, entry in sorted(spec.items()):  # the order of a mapping's keys is not the order of data
        fields = dict(entry) if isinstance(entry, Mapping) else {"pattern": entry}
        unknown = sorted(set(fields) - _KEYS)
        if unknown or "pattern" not in fields:
            raise InputError(f"task '{task}': source '{name}' takes pattern and weight, got {sorted(fields)}")
        weight = fields.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InputError(f"task '{task}': source '{name}' has the weight {weight!r}, which is no number")
        sources.append(Source(f"{task}.{name}", _pattern(f"{task}.{name}", fields["pattern"]), store))
        weights.append(float(weight))
    return sources, weights


def _pattern(name: str, value: object) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    raise InputError(f"source '{name}' is {value!r}; give a pattern, a list of patterns, or names with a pattern each")
