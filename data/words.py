"""How times and sizes are written for people."""

from __future__ import annotations

_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


def duration(seconds: float | None) -> str:
    """``0.25 s``, ``50 s``, ``12 min``, ``3.4 h``, ``2.3 days``; "" for None."""
    if seconds is None:
        return ""
    for least, unit, name in ((2 * _DAY, _DAY, "days"), (2 * _HOUR, _HOUR, "h"), (3 * _MINUTE, _MINUTE, "min")):
        if seconds >= least:
            value = seconds / unit
            return f"{value:.1f} {name}" if value < 10 else f"{value:,.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def byte_size(amount: float) -> str:
    """``812 bytes``, ``8.21 MB``, ``1.2 TB``: powers of a thousand."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"
