"""The files of a worked example, as a page of the docs prints them."""

from __future__ import annotations

import re
from pathlib import Path

_MARKED = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def write_examples(page: Path, folder: Path) -> int:
    """Writes them below ``folder``; how many lines they have."""
    found = _MARKED.findall(page.read_text(encoding="utf-8"))
    for name, content in found:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return sum(content.count("\n") for _, content in found)
