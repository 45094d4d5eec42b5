"""One HTML file without anything from elsewhere, for a screen of any width, light or dark."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

_HERE = resources.files("pretrain.report")
# Whatever got into a config or a metric's name: nothing is loaded from anywhere but the file itself.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:"


def document(title: str, parts: Iterable[str]) -> str:
    """The file that holds ``parts``, HTML each."""
    style, script = ((_HERE / file).read_text(encoding="utf-8") for file in ("style.css", "script.js"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def script_json(value: Any) -> str:
    """``value`` as JSON that may stand in a script element: no text in it begins or ends anything there."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def save(text: str, target: Path) -> Path:
    """Writes the file as a whole or not at all; what UTF-8 cannot hold of a name is escaped.

    Raises:
        OSError: it cannot be written.
    """
    partial = partial_of(target, os.getpid())
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return target


def partial_of(target: Path, pid: int) -> Path:
    """Where the process ``pid`` writes what is to become ``target``; several may be at it."""
    return target.with_name(f".{target.name}.{pid}.part")
