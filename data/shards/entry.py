"""One line of a manifest, which ``data/manifest.py`` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from data.shards.summary import Summary
from data.store import url as urls


def line(name: str, summary: Summary, token: str) -> str:
    """A line of JSON, its end included.

    Args:
        name: of the shard, relative to the manifest or absolute.
        summary: what it holds.
        token: what tells this version of it from another: mtime_ns or etag.
    """
    row: dict[str, object] = {
        "shard": name,
        "samples": summary.samples,
        "bytes": summary.bytes,
        "members": summary.members,
        "token": token,
    }
    if summary.damage:
        row["damage"] = list(summary.damage)
    return json.dumps(row) + "\n"


def name_in(folder: Path, url: str) -> str:
    """What a shard is called in a manifest that lies in ``folder``: relative if it lies there or below."""
    if urls.scheme(url) not in ("", "file"):
        return url
    path = Path(os.path.abspath(urls.local(url)))
    home = Path(os.path.abspath(folder))
    name = path.relative_to(home).as_posix() if path.is_relative_to(home) else path.as_posix()
    return f"./{name}" if not urls.absolute(name) and urls.scheme(name) else name


def write(path: Path, lines: Iterable[str]) -> None:
    """Writes a manifest beside its name and renames it, so that no run begins with half of it.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
