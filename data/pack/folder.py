"""Files as rows: images and audio with the captions beside them, or text files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data.errors import unlisted
from data.pack import media
from data.pack.report import Unusable
from data.pack.row import Leave, Row
from data.pack.table import is_table

TEXT = ("txt", "md", "text")


def files_below(folder: Path) -> list[Path]:
    """All files below ``folder``, hidden ones aside, sorted by path; links to folders are followed once.

    Raises:
        InputError: a folder cannot be read.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(Path(here, name) for name in names if not name.startswith("."))
    return sorted(found, key=lambda path: path.as_posix())


class Files:
    """Image and audio files, or text files where there are none of these.

    A row has the columns ``file``, ``folder`` (name of the parent folder) and, from ``STEM.txt`` beside the file,
    ``caption``; a text file's row has ``text`` and ``folder``.

    Args:
        name: how the input was named.
        files: the files, in order.
        root: row names are paths relative to this.
    """

    def __init__(self, name: str, files: list[Path], root: Path) -> None:
        self.name = name
        self.total = len(files)
        self._files = files
        self._root = root
        self._texts = {file.with_suffix(""): file for file in files if media.extension(file) == "txt"}
        self._stems = {file.with_suffix("") for file in files if media.extension(file) in media.EXTENSIONS}

    def rows(self, leave: Leave) -> Iterator[Row]:
        """One row for each usable file; text files beside images or audio are captions or left out."""
        for done, file in enumerate(self._files, 1):
            relative = file.relative_to(self._root).as_posix()
            try:
                fields = self._fields(file, relative)
            except Unusable as why:
                leave(relative, why)
                continue
            if fields is not None:
                yield Row(relative[: -len(file.suffix)], relative, self._root, fields, done)

    def _fields(self, file: Path, relative: str) -> dict[str, str] | None:
        suffix, folder = media.extension(file), file.parent.name
        if suffix in media.EXTENSIONS:
            stem = file.with_suffix("")
            # Of a glob the files beside those that were named are no part of the input, and captions all the same.
            beside = [self._texts.get(stem), stem.with_name(f"{stem.name}.txt"), stem.with_name(f"{stem.name}.TXT")]
            found = next((path for path in beside if path is not None and path.is_file()), None)
            caption = {"caption": _text(found)} if found is not None else {}
            return {"file": relative, "folder": folder, **caption}
        if suffix not in TEXT:
            raise Unusable("table among images or audio" if is_table(file) else "unknown file type")
        if not self._stems:
            return {"text": _text(file), "folder": folder}
        if suffix == "txt" and file.with_suffix("") in self._stems:
            return None
        raise Unusable("text file that is no caption of a file beside it")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable("not UTF-8", f"{path.name}, byte {error.start}") from None
    except OSError as error:
        raise Unusable("unreadable file", f"{path}: {error.strerror}") from None
