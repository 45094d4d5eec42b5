"""What evaluators say beyond numbers, for a page, a terminal and a model card. Imports no torch.

A table is ``{"kind", "title", "columns", "rows"}``, see :class:`pretrain.evaluation.scores.Table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

_WIDEST = 44  # characters of a cell on a terminal


def all_of(results: Mapping[str, Any] | None, kinds: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    """The tables of ``results``, evaluator after evaluator; those of ``kinds`` alone, where any are given."""
    for tables in (results or {}).get("tables", {}).values():
        yield from (table for table in tables if not kinds or table["kind"] in kinds)


def lines(table: Mapping[str, Any]) -> str:
    """Aligned columns below the title; long cells are cut."""
    rows = [[_cut(told(cell)) for cell in row] for row in table["rows"]]
    numbers = [column.endswith(">") for column in table["columns"]]
    titles = [column.rstrip(">") for column in table["columns"]]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = (f"{c:>{w}}" if right else f"{c:<{w}}" for c, w, right in zip(cells, widths, numbers, strict=True))
        return "  ".join(placed).rstrip()

    return "\n".join([table["title"], *(f"  {line(row)}" for row in (titles, *rows))])


def html(table: Mapping[str, Any]) -> str:
    """A section of the report."""
    titles = "".join(f"<th>{escape(column.rstrip('>'))}</th>" for column in table["columns"])
    rows = "".join("<tr>" + "".join(f"<td>{escape(told(c))}</td>" for c in row) + "</tr>" for row in table["rows"])
    return (
        f'<section><h2>{escape(table["title"])}</h2><div class="wide"><table class="listing"><thead><tr>{titles}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div></section>"
    )


def markdown(table: Mapping[str, Any]) -> list[str]:
    """Lines of a table in Markdown."""
    titles = [column.rstrip(">") for column in table["columns"]]
    marks = ["--:" if column.endswith(">") else "---" for column in table["columns"]]
    rows = [[told(cell).replace("|", "\\|") for cell in row] for row in table["rows"]]
    return [f"| {' | '.join(cells)} |" for cells in (titles, marks, *rows)]


def told(cell: Any) -> str:
    """A cell in words."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
