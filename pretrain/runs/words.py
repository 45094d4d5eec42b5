"""How times, speeds and shares are written for people."""

from __future__ import annotations

import time

from data.words import duration


def ago(moment: float) -> str:
    """``3 min ago``; "never" for 0."""
    return f"{duration(max(0.0, time.time() - moment))} ago" if moment else "never"


def share(value: float | None) -> str:
    """``93 %``; "" for None."""
    return "" if value is None else f"{100 * value:.0f} %"


def number(value: float | None) -> str:
    """Four digits; "" for None."""
    return "" if value is None else f"{value:.4g}"
