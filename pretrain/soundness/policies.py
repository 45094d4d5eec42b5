"""What is done about sick numbers, from mild to strict. Imports no torch: the config's schema names these words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WARN, SKIP, REWIND, STOP = "warn", "skip", "rewind", "stop"
POLICIES = (WARN, SKIP, REWIND, STOP)
OFF = "off"


def rewinds_by(config: Mapping[str, Any]) -> int | None:
    """At least how many steps a run of this config, resolved, may go back to one of its checkpoints; None: never."""
    sick, alarms = config.get("sick", {}), config.get("alarms", {})  # one that an older version has left may lack them
    policies = [node.get("policy") for node in alarms.values() if isinstance(node, Mapping)]
    going = REWIND in (sick.get("nonfinite"), sick.get("spike"), *policies)
    return int(sick["rewind"]["steps_back"]) if going else None


def stricter(one: str | None, other: str | None) -> str | None:
    """The stricter of two policies; None is the mildest."""
    order = (None, *POLICIES)
    return max(one, other, key=order.index)
