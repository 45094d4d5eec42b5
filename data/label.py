"""What a sample is to be told as: a member of it, a field of its JSON, or a row of a table beside the shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError, SampleError, choices
from data.pack.report import Unusable
from data.pack.table import EXTENSIONS, Tables, is_table
from data.sample import Sample, text_of


class Label:
    """Where the class of a sample is.

    Attributes:
        member: extension of the member that holds it.

    Args:
        place: ``cls``: a member whose whole text is the class (what ``pretrain shards pack --label`` writes), or
            ``json.a.b``: a field of a JSON member; text, a number or true and false.

    Raises:
        InputError: a field of something that is no JSON.
    """

    def __init__(self, place: str) -> None:
        self.member, _, field = place.partition(".")
        self.path = field.split(".") if field else []
        if not self.member or (self.path and self.member != "json"):
            raise InputError(f"label '{place}' is neither a member (cls) nor a field of one that is JSON (json.label)")

    def __call__(self, sample: Sample) -> str:
        """The class.

        Raises:
            SampleError: it has none.
        """
        text = text_of(sample.contents([self.member])[0], f"member {self.member}", self.member)
        if not self.path:
            return text
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SampleError(f"member json is no JSON: {str(error)[:80]}", "undecodable", "json") from None
        for part in self.path:
            if not isinstance(value, dict) or part not in value:
                raise SampleError(f"member json has no field {'.'.join(self.path)}", "missing", "json")
            value = value[part]
        if not isinstance(value, str | int | float):
            raise SampleError(f"field {'.'.join(self.path)} is {type(value).__name__}, no class", "undecodable", "json")
        if not str(value).strip():
            raise SampleError(f"field {'.'.join(self.path)} is empty", "empty", "json")
        return str(value)


class TableLabel:
    """The class of a sample in a table of its own, by the sample's key.

    Args:
        table: JSON lines, CSV or TSV.
        key: column with keys; what follows the first dot of a file name counts as little as in a shard.
        field: column with classes.
        sha256: of the table's bytes; None: any. What a run has begun with must not change under it.

    Attributes:
        member: empty: it is in none.

    Raises:
        InputError: no such table or column, a key with two classes, or another table than ``sha256`` says.
    """

    member = ""

    def __init__(self, table: str, key: str = "key", field: str = "label", sha256: str | None = None) -> None:
        path = Path(table).expanduser()
        if not path.is_file() or not is_table(path):
            raise InputError(f"label table '{table}' is no file of {', '.join(EXTENSIONS)}")
        if sha256 is not None and digest_of(table) != sha256:
            raise InputError(
                f"label table '{table}' is not the one that the run began with (SHA-256 {digest_of(table)[:12]} "
                f"instead of {sha256[:12]})"
            )
        self.table = table
        self.classes: dict[str, str] = {}
        for row in Tables(table, [path], path.parent).rows(_pass_over):
            for column in (key, field):
                if column not in row.fields:
                    raise InputError(
                        f"label table '{table}' has no column '{column}' in {row.place}; {choices(column, row.fields)}"
                    )
            value = row.fields[field]
            if isinstance(value, dict | list):
                raise InputError(f"label table '{table}': '{field}' in {row.place} is no text and no number")
            name, text = _key(str(row.fields[key])), "" if value is None else str(value).strip()
            if self.classes.setdefault(name, text) != text:
                raise InputError(f"label table '{table}' gives '{name}' two classes: {self.classes[name]} and {text}")

    def __call__(self, sample: Sample) -> str:
        """The class.

        Raises:
            SampleError: the table has no such key, or nothing in its row.
        """
        text = self.classes.get(sample.key)
        if text is None:
            raise SampleError(f"label table '{Path(self.table).name}' has no key '{sample.key}'", "missing")
        if not text:
            raise SampleError(f"label table '{Path(self.table).name}' has an empty class", "empty")
        return text


def label_of(place: str | Mapping[str, Any]) -> Label | TableLabel:
    """What reads the class of a sample.

    Args:
        place: see :class:`Label`; or the arguments of :class:`TableLabel` by name.

    Raises:
        InputError: it is neither.
    """
    if isinstance(place, str):
        return Label(place)
    known = ("table", "key", "field", "sha256")
    unknown = next((str(name) for name in place if name not in known), None)
    if unknown is not None or "table" not in place:
        raise InputError(f"label takes {', '.join(known)} of a table, got {', '.join(map(str, place)) or 'nothing'}")
    return TableLabel(**place)


def digest_of(table: str) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(table).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"label table '{table}' cannot be read: {error.strerror}") from None


def _key(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _pass_over(place: str, why: Unusable) -> None:
    """A line that is no row gives no sample a class; the samples say so."""
