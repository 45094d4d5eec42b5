"""Tables: JSON lines, CSV and TSV files as rows."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError
from data.pack.report import Unusable
from data.pack.row import Leave, Row

EXTENSIONS = ("jsonl", "csv", "tsv")


def is_table(path: Path) -> bool:
    """Whether the file's name says that it is a table."""
    return path.suffix.lower().removeprefix(".") in EXTENSIONS


class Tables:
    """One table, or several one after the other.

    Args:
        name: how the input was named.
        files: the tables, in order; files that are none are left out.
        root: row names begin with the table's path relative to this.
    """

    def __init__(self, name: str, files: list[Path], root: Path) -> None:
        self.name = name
        self.total = sum(file.stat().st_size for file in files if is_table(file) and file.is_file())
        self._files = files
        self._root = root

    def rows(self, leave: Leave) -> Iterator[Row]:
        """The rows of all tables; lines that are no row are left out.

        Raises:
            InputError: a CSV quote is malformed, or the columns of a CSV or TSV are not what its name says.
        """
        before = 0
        for file in self._files:
            if not is_table(file):
                leave(file.name, Unusable("file beside the tables"))
                continue
            if not file.is_file():
                leave(file.name, Unusable("missing file"))
                continue
            stem = file.relative_to(self._root).with_suffix("").as_posix()
            lines = _Lines(file)
            parse = _json if file.suffix.lower() == ".jsonl" else _csv
            for number, (line, fields) in enumerate(parse(lines)):
                place = f"{file.name}:{line}"
                if isinstance(fields, Unusable):
                    leave(place, fields)
                else:
                    yield Row(f"{stem}-{number:06d}", place, file.parent, fields, before + lines.read)
            before += lines.read


class _Lines:
    """The lines of a file, with the bytes read so far.

    Bytes that are not UTF-8 become surrogates, so that one bad line costs one sample and not the whole table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0

    def __iter__(self) -> Iterator[str]:
        with open(self.path, "rb") as file:
            for raw in file:
                if self.read == 0 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise InputError(f"table '{self.path}' is UTF-16; save it as UTF-8")
                line = raw.removeprefix(b"\xef\xbb\xbf") if self.read == 0 else raw
                self.read += len(raw)
                yield line.decode("utf-8", "surrogateescape")


def _json(lines: _Lines) -> Iterator[tuple[int, dict | Unusable]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        yield number, fields if isinstance(fields, dict) else Unusable("line is not a JSON object")


def _csv(lines: _Lines) -> Iterator[tuple[int, dict | Unusable]]:
    blank = 0

    def begun() -> Iterator[str]:
        """Without the blank lines in front of the header."""
        nonlocal blank
        rest = iter(lines)
        for line in rest:
            if line.strip():
                yield line
                yield from rest
            else:
                blank += 1

    filled = begun()
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # documents are longer than the default of 128 KiB
    if lines.path.suffix.lower() == ".tsv":
        # A quotation mark is one: in captions and transcripts it opens fields that no other mark closes.
        reader = csv.DictReader(filled, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.DictReader(filled, strict=True)
    try:
        names = Counter(reader.fieldnames or ())
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InputError(f"table '{lines.path}' has several columns '{twice[0]}'; give each a name of its own")
        _separated(lines.path, list(names), reader.reader.dialect.delimiter)
        for fields in reader:
            line, whole = blank + reader.line_num, None not in fields and None not in fields.values()
            yield line, fields if whole else Unusable("row has another number of columns than the header")
    except csv.Error as error:
        raise InputError(f"table '{lines.path}', line {blank + reader.line_num}: {error}") from None


def _separated(path: Path, names: list[str], separator: str) -> None:
    """InputError where the header is one field for ``separator`` and several for another one (";", say)."""
    words = {",": "commas", "\t": "tabs", ";": "semicolons"}
    for other in words:
        if len(names) == 1 and other != separator and other in names[0]:
            raise InputError(
                f"table '{path}' has its fields between {words[other]}, where its name says {words[separator]}; "
                "save it with commas as .csv or with tabs as .tsv"
            )
