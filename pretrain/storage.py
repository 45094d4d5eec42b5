"""Where a run's shards come from, by its config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.store.cache import Cache
from data.store.store import Store


def open_store(config: Mapping[str, Any]) -> Store:
    """Where the run's shards come from.

    Raises:
        InputError: the cache's size or folder is no good.
    """
    cache = config["cache"]
    folder = Path(cache["folder"]).expanduser() if cache["folder"] else None
    return Store(Cache(folder, cache["max_size"]), cache["deadline_s"], cache["allowed_pipes"])
