"""Packs a user's own data into shards."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.errors import InputError
from data.pack import fields as roles
from data.pack import keys
from data.pack.documents import pieces
from data.pack.fields import Fields
from data.pack.members import Members, members
from data.pack.report import Report, Unusable, report_name
from data.pack.row import Row, Source
from data.pack.splits import Splits

_PEEKED = 256
_NOT_A_NAME = re.compile(r"\W+")


@dataclass(frozen=True)
class Packing:
    """How to pack.

    Attributes:
        prefix: what the shards' names begin with.
        fields: which columns to take; open roles are detected.
        max_characters: longer documents are cut into pieces, 0 keeps them whole.
        max_bytes: largest tar file, except for a single sample that is larger.
        val: share of the samples that goes to the split ``val``, the rest to ``train``; None sets nothing aside.
        overwrite: whether shards of the same names give way.
    """

    prefix: str
    fields: Fields = field(default_factory=Fields)
    max_characters: int = 8000
    max_bytes: int = 256 * 10**6
    val: float | None = None
    overwrite: bool = False


def pack(
    source: Source, folder: Path, packing: Packing, tick: Callable[[int, int], None] = lambda done, total: None
) -> Report:
    """Writes the rows of ``source`` as shards in ``folder``, in the order of the input, with a report beside them.

    Args:
        source: the input.
        folder: where the shards go; made if missing.
        packing: how to pack.
        tick: called after each row with how much of the source is done, and the whole of it.

    Raises:
        InputError: a field does not exist, shards of the same names do, or nothing can be used.
    """
    began = time.monotonic()
    report = Report(source.name, str(folder))
    rows = source.rows(report.leave)
    peeked = list(itertools.islice(rows, _PEEKED))
    if not peeked:
        raise InputError(f"nothing in '{source.name}' can be packed: {report.reasons() or 'it is empty'}")
    packer = _Packer(replace(packing, fields=roles.detect(packing.fields, peeked, source)), packing.fields)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder '{folder}' cannot be made: {error.strerror}") from None
    with Splits(folder, packing.prefix, packing.max_bytes, packing.overwrite) as splits:
        for split in packer.known_splits():
            splits.claim(split)
        for row in itertools.chain(peeked, rows):
            report.rows += 1
            packer.adopt(row)
            try:
                for split, key, content in packer.samples(row):
                    splits.add(split, key, content)
                    report.samples += 1
                    report.bytes += sum(map(len, content.values()))
                    report.members.update(content.keys())
                    report.splits[split] += 1
            except Unusable as why:
                report.leave(row.place, why)
            tick(row.done, source.total)
        if not report.samples:
            raise InputError(f"nothing in '{source.name}' can be packed: {report.reasons()}")
        report.shards = splits.publish()
    report.fields = packer.packing.fields.named()
    report.seconds = round(time.monotonic() - began, 3)
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / report_name(packing.prefix)).write_text(text, encoding="utf-8", errors="backslashreplace")
    return report


class _Packer:
    """Turns rows into samples.

    Args:
        packing: how to pack, every role decided.
        given: the roles that the user named: a row without one of them is left out.
    """

    def __init__(self, packing: Packing, given: Fields) -> None:
        self.packing = packing
        self._required = frozenset(given.named())
        self._splits: dict[str, str] = {}
        """Name -> the value that it was made of."""
        self._keys = keys.Keys()

    def adopt(self, row: Row) -> None:
        """Takes a column for a role that is open yet, in whichever row it is filled first."""
        fields = roles.further(self.packing.fields, row)
        if fields is not self.packing.fields:
            self.packing = replace(self.packing, fields=fields)

    def known_splits(self) -> tuple[str, ...]:
        if self.packing.fields.split is not None:
            return ()
        return ("train",) if self.packing.val is None else ("train", "val")

    def samples(self, row: Row) -> Iterator[tuple[str, str, Members]]:
        """(split, key, members) of the samples that ``row`` makes: all of them or none."""
        stem = self._stem(row)
        content = members(row, self.packing.fields, self._required)
        # Decided by the name before it is made unique: rows about the same file stay on one side.
        split = self._split(row, stem)
        if self.packing.fields.key is None:
            stem = self._keys.free(stem)
        self._keys.claim(stem)
        document = content["txt"].decode("utf-8") if self.packing.fields.text is not None else ""
        parts = pieces(document, self.packing.max_characters)
        if len(parts) < 2:
            yield split, stem, content
            return
        for number, part in enumerate(parts):
            key = self._keys.free(f"{stem}-p{number:04d}")
            self._keys.claim(key)
            yield split, key, {**content, "txt": part.encode("utf-8")}

    def _stem(self, row: Row) -> str:
        fields = self.packing.fields
        if fields.key is not None:
            value = row.value(fields.key)
            if value is None or isinstance(value, (dict, list)):
                raise Unusable("no key", fields.key)
            return keys.clean(str(value))
        for column in fields.files():
            name = row.value(column)
            if isinstance(name, str) and name:
                return keys.of_file(row.folder / name, row.folder)
        return keys.clean(row.name)

    def _split(self, row: Row, stem: str) -> str:
        if self.packing.fields.split is not None:
            value = row.value(self.packing.fields.split)
            name = _NOT_A_NAME.sub("_", str(value)) if isinstance(value, (str, int)) else ""
            if not name.strip("_"):
                raise Unusable("no split", self.packing.fields.split)
            if (other := self._splits.setdefault(name, str(value))) != str(value):
                raise InputError(f"splits '{other}' and '{value}' would both be called '{name}'; rename one of them")
            return name
        return "val" if self.packing.val is not None and keys.in_share(stem, self.packing.val) else "train"
