"""Checks that ``data``, ``modalities`` and ``conf`` are this package's own neighbours.

Their names are common: a folder ``data/`` or ``conf/`` beside a user's script would shadow them, and the first sign
would be a puzzling import error.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAMES = ("conf", "data", "modalities")


def check() -> None:
    """Puts this package's own folder first where a namesake shadows a neighbour that is not imported yet.

    Raises:
        ImportError: a namesake was imported before; one line that says which and from where.
    """
    home = Path(__file__).resolve().parent.parent
    for name in NAMES:
        loaded = sys.modules.get(name)
        file = getattr(loaded, "__file__", None) if loaded else _origin(name)
        if file is not None and Path(file).resolve().parent == home / name:
            continue
        if loaded is not None:
            where = file or next(iter(getattr(loaded, "__path__", ["?"])))
            raise ImportError(
                f"pretrain needs its own package '{name}', but '{where}' was imported under that name before"
            )
        if str(home) in sys.path:
            sys.path.remove(str(home))
        sys.path.insert(0, str(home))
        importlib.invalidate_caches()


def _origin(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    return spec.origin if spec else None
