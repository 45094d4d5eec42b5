"""A section that is a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(title: str, head: Sequence[str], rows: Iterable[str], look: str) -> str:
    """The ``<section>``, "" where there are no rows.

    Args:
        title: above it.
        head: of the columns.
        rows: ``<tr>`` each.
        look: classes of the style sheet.
    """
    body = "".join(rows)
    if not body:
        return ""
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return (
        f'<section><h2>{escape(title)}</h2><div class="wide"><table class="{look}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )
