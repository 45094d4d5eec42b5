"""What is done about sick numbers, from mild to strict. Imports no torch: the config's schema names these words."""

from __future__ import annotations

WARN, SKIP, REWIND, STOP = "warn", "skip", "rewind", "stop"
POLICIES = (WARN, SKIP, REWIND, STOP)
OFF = "off"


def stricter(one: str | None, other: str | None) -> str | None:
    """The stricter of two policies; None is the mildest."""
    order = (None, *POLICIES)
    return max(one, other, key=order.index)
