"""Finds out what an input is: tables or files."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from data.errors import InputError
from data.pack import folder, media, table
from data.pack.row import Source


def locate(name: str) -> Source:
    """The source that ``name`` means: a table, a file, a folder or a glob of these.

    In a folder, images and audio files go before tables, and tables before text files; what is passed over is reported.

    Raises:
        InputError: there is nothing by that name, or nothing that can be packed.
    """
    path = Path(name).expanduser()
    if path.is_file():
        root, files = path.parent, [path]
    elif path.is_dir():
        root, files = path, folder.files_below(path)
    else:
        hits = [Path(hit) for hit in sorted(glob.glob(str(path), recursive=True))]
        if not hits:
            raise InputError(
                f"input '{name}' does not exist: give a folder, a JSONL, CSV or TSV table, or a glob of these"
            )
        below = [file for hit in hits for file in (folder.files_below(hit) if hit.is_dir() else [hit])]
        files = list(dict.fromkeys(below))
        root = Path(os.path.commonpath([file.parent for file in files])) if files else path.parent
    kinds = [media.extension(file) for file in files]
    if any(kind in media.EXTENSIONS for kind in kinds):
        return folder.Files(name, files, root)
    if any(kind in table.EXTENSIONS for kind in kinds):
        return table.Tables(name, files, root)
    if any(kind in folder.TEXT for kind in kinds):
        return folder.Files(name, files, root)
    known = ", ".join((*table.EXTENSIONS, *media.EXTENSIONS, *folder.TEXT))
    raise InputError(f"input '{name}' holds {len(files)} files, none of a known type: {known}")


def default_prefix(name: str) -> str:
    """What the shards of the input ``name`` are called unless told: its folder or table, without the extension."""
    path = Path(name).expanduser()
    while glob.has_magic(path.name):
        path = path.parent
    base = path.resolve()
    return (base.stem if base.is_file() else base.name) or "shards"
