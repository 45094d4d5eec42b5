"""How times, speeds and shares are written for people."""

from __future__ import annotations

import time

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """``2.5 h``; "" for None."""
    if seconds is None:
        return ""
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), (1, "s"))
    value = seconds / size
    return f"{value:.1f} {unit}" if value < 10 and size > 1 else f"{value:.0f} {unit}"


def ago(moment: float) -> str:
    """``3 min ago``; "never" for 0."""
    return f"{duration(max(0.0, time.time() - moment))} ago" if moment else "never"


def share(value: float | None) -> str:
    """``93 %``; "" for None."""
    return "" if value is None else f"{100 * value:.0f} %"


def number(value: float | None) -> str:
    """Four digits; "" for None."""
    return "" if value is None else f"{value:.4g}"
