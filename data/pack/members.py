"""Members: what a row becomes inside a shard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from data.errors import InputError
from data.pack import media
from data.pack.fields import Fields
from data.pack.report import Unusable
from data.pack.row import Row

Members = dict[str, bytes]

# Longer values are content, not facts about it, and would be repeated in every piece of a document.
_SMALL = 200


def members(row: Row, fields: Fields, required: frozenset[str]) -> Members:
    """The members of the sample that ``row`` makes: extension -> bytes.

    ``txt`` is the document or the first caption, ``captions.json`` all captions where there is a list of them,
    ``jpg``, ``png``, ``webp``, ``flac``, ``wav``, ``ogg`` and ``mp3`` the files as they are, ``cls`` the label, and
    ``json`` the row's other short values.

    Args:
        row: a row of the input.
        fields: the columns to take.
        required: roles that the row must fill.

    Raises:
        Unusable: the row lacks a required role, or what it names cannot be used.
    """
    content: Members = {}
    if fields.text is not None:
        content["txt"] = _encoded(_document(row.value(fields.text)))
    for column, kinds in fields.files().items():
        content.update(_file(row, column, kinds, required))
    if fields.files() and not content:
        raise Unusable("no file named", ", ".join(fields.files()))
    if fields.caption is not None:
        content.update(_caption(row, fields.caption, "caption" in required))
    if fields.label is not None:
        content.update(_label(row.value(fields.label), fields.label, "label" in required))
    facts = _facts(row.fields, fields)
    return content | ({"json": _encoded(json.dumps(facts, ensure_ascii=False))} if facts else {})


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a surrogate: the source was not UTF-8
        raise Unusable("not UTF-8") from None


def _document(value: Any) -> str:
    texts = value if isinstance(value, list) else [value]
    text = "\n".join(item for item in texts if isinstance(item, str)).strip()
    if not text:
        raise Unusable("empty text")
    return text


def _file(row: Row, column: str, kinds: Mapping[str, str], required: frozenset[str]) -> Members:
    name = row.value(column)
    if not isinstance(name, str) or not name.strip():
        if required & {"image", "audio"}:
            raise Unusable("no file named", column)
        return {}
    extension, content = media.read(row.folder / name, dict(kinds))
    return {extension: content}


def _caption(row: Row, column: str, required: bool) -> Members:
    value = row.value(column)
    if isinstance(value, Mapping):
        names = ", ".join(f"{column}.{name}" for name in list(value)[:8])
        raise InputError(f"--caption '{column}' holds several values by name: choose one, e.g. {names}")
    if value is None and not required:
        return {}
    listed = isinstance(value, list)
    if any(isinstance(item, Mapping | list) for item in (value if listed else ())):
        raise InputError(
            f"--caption '{column}' holds a list of objects in {row.place}; give a column of texts, or lists of them"
        )
    texts = [str(item).strip() for item in (value if listed else [value]) if item is not None]
    texts = [text for text in texts if text]
    if not texts:
        raise Unusable("no caption" if value is None else "empty caption", column)
    every = {"captions.json": _encoded(json.dumps(texts, ensure_ascii=False))} if listed else {}
    return {"txt": _encoded(texts[0]), **every}


def _label(value: Any, column: str, required: bool) -> Members:
    if isinstance(value, float) and math.isfinite(value):  # as tables write whole numbers where one is missing
        value = int(value) if value.is_integer() else repr(value)
    text = str(value).strip() if isinstance(value, (str, int)) else ""
    if not text and required:
        raise Unusable("no label", column)
    return {"cls": _encoded(text)} if text else {}


def _is_fact(value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):  # which JSON has no word for
        return False
    return isinstance(value, (str, int, float)) and value != "" and len(str(value)) <= _SMALL


def _facts(values: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    taken = {*fields.named().values(), "folder"}
    return {name: value for name, value in values.items() if name not in taken and _is_fact(value)}
