"""Fields: which column of the input plays which role in a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.errors import InputError, choices
from data.pack import media
from data.pack.report import Unusable
from data.pack.row import Row, Source

# Column names that are taken for a role when the user names none, best first.
_TEXT = ("text", "content", "document", "body")
_CAPTION = ("caption", "captions", "text", "sentence", "transcript", "transcription", "title")
_LABEL = ("label", "class")
_FILE = (
    "image",
    "img",
    "image_path",
    "audio",
    "sound",
    "audio_path",
    "file",
    "path",
    "filename",
    "file_name",
    "filepath",
)


@dataclass(frozen=True)
class Fields:
    """Role -> column, None where a sample lacks the role. ``a.b`` is member ``b`` of column ``a``.

    Attributes:
        text: documents.
        image: names of image files.
        audio: names of audio files; may be the column of ``image``, the extension then decides.
        caption: text that goes with an image or audio file; a string or a list of strings.
        label: class.
        key: what the samples are called.
        split: which set of shards a sample goes to.
    """

    text: str | None = None
    image: str | None = None
    audio: str | None = None
    caption: str | None = None
    label: str | None = None
    key: str | None = None
    split: str | None = None

    def named(self) -> dict[str, str]:
        """Role -> column of the roles that are filled."""
        return {role: column for role, column in vars(self).items() if column is not None}

    def files(self) -> dict[str, dict[str, str]]:
        """Column that names files -> the extensions that will do there, mapped to the member's extension."""
        columns: dict[str, dict[str, str]] = {}
        for column, kinds in ((self.image, media.IMAGE), (self.audio, media.AUDIO)):
            if column is not None:
                columns[column] = columns.get(column, {}) | kinds
        return columns


def detect(given: Fields, rows: Sequence[Row], source: Source) -> Fields:
    """Fills the roles that ``given`` leaves open from the columns of the first ``rows`` of ``source``.

    Raises:
        InputError: a given column is in no row, roles exclude each other, or there is no text, image or audio in any
            column of a usual name.
    """
    columns = sorted({column for row in rows for column in row.fields})
    for role, column in given.named().items():
        names = {column, column.split(".")[0]}
        if names.isdisjoint(columns) and not any(names & row.fields.keys() for row in source.rows(_pass_over)):
            raise InputError(f"--{role} '{column}' is no field of '{source.name}'; {choices(column, columns)}")
    if given.text is not None and (given.image is not None or given.audio is not None):
        raise InputError(f"--text '{given.text}' is for documents; the text of an image or audio file is its --caption")
    fields = given if given.text or given.image or given.audio else _content(given, rows)
    if fields.text is None and not fields.files():
        raise InputError(
            f"no field of '{source.name}' looks like text, an image or audio: name one with --text, --image, --audio; "
            f"fields: {', '.join(columns)}"
        )
    if fields.text is not None and given.caption is not None:
        raise InputError(
            f"--caption '{given.caption}' needs images or audio, and '{source.name}' is taken for documents"
        )
    return further(fields, *rows)


def further(fields: Fields, *rows: Row) -> Fields:
    """``fields`` with a label and a caption where those are open and ``rows`` have one; else ``fields`` itself."""
    label = None if fields.label is not None else _first(_LABEL, rows, _is_scalar)
    caption = None if fields.caption is not None or fields.text is not None else _first(_CAPTION, rows, _is_text)
    found = {"label": label, "caption": caption}
    changed = {role: column for role, column in found.items() if column is not None}
    return replace(fields, **changed) if changed else fields


def _pass_over(place: str, why: Unusable) -> None:
    """What makes no row has no columns."""


def _content(given: Fields, rows: Sequence[Row]) -> Fields:
    image = _first(_FILE, rows, lambda value: _names(value, media.IMAGE))
    audio = _first(_FILE, rows, lambda value: _names(value, media.AUDIO))
    if image or audio:
        return replace(given, image=image, audio=audio)
    return replace(given, text=_first(_TEXT, rows, _is_text))


def _first(names: Sequence[str], rows: Sequence[Row], fits: Any) -> str | None:
    return next((name for name in names if any(fits(row.fields.get(name)) for row in rows)), None)


def _names(value: object, kinds: Mapping[str, str]) -> bool:
    return isinstance(value, str) and media.extension(value) in kinds


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
