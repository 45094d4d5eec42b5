"""A row: what may become a sample. A table has rows; the files of a folder are taken for rows too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.pack.report import Unusable

Leave = Callable[[str, Unusable], None]


@dataclass(frozen=True)
class Row:
    """A row of the input.

    Attributes:
        name: what the sample is called if neither a field nor a file names it.
        place: where the row stands, for messages.
        folder: what file names in the row are relative to.
        fields: column -> value.
        done: how much of the source lies behind this row, in the unit of ``Source.total``.
    """

    name: str
    place: str
    folder: Path
    fields: Mapping[str, Any]
    done: int

    def value(self, field: str) -> Any:
        """The value of ``field``, None where there is none; ``captions.en`` is member ``en`` of column ``captions``."""
        if field in self.fields:
            return self.fields[field]
        value: Any = self.fields
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


class Source(Protocol):
    """Something with rows.

    Attributes:
        name: how the input was named.
        total: the whole of it, for progress; bytes of tables or number of files.
    """

    name: str
    total: int

    def rows(self, leave: Leave) -> Iterator[Row]:
        """The rows in order; ``leave`` is told of what makes no row."""
        ...
