"""What happened to a run, one line each: starts, alarms, samples that could not be used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pretrain.report.axis import words
from pretrain.report.facts import Facts
from pretrain.report.rows import Row

MOST = 60


class Event(NamedTuple):
    """``text`` is a line, and further ones in small print; ``time`` may be empty."""

    step: int
    time: str
    text: list[str]


def happened(facts: Facts) -> list[Event]:
    """In the order of steps; of very many the last ones."""
    found = [*_starts(facts.starts), *map(_alarm, facts.events), *_rejected(facts)]
    found.sort(key=lambda event: event.step)
    left_out = len(found) - MOST
    if left_out > 0:
        return [Event(found[left_out].step, "", [f"{left_out} earlier ones are left out"]), *found[left_out:]]
    return found


def _starts(starts: list[Row]) -> Iterable[Event]:
    previous: list[str] | None = None
    for number, row in enumerate(starts):
        what = "started" if number == 0 or row["step"] == 0 else "resumed"
        device, threads = row.get("device"), row.get("threads")
        on = " on " + str(row["host"]) if row.get("host") else ""
        text = [f"{what}{on}, {device}" + (f", {threads} threads" if threads else "")]
        overrides = [str(one) for one in row.get("overrides") or []]
        given = [*(["--config", str(row["file"])] if row.get("file") else []), *overrides]
        if given != previous and given:
            text.append("pretrain " + " ".join(given))
        previous = given
        text += [f"damaged data: {line}" for line in row.get("damage") or ()]
        packages = row.get("packages") or {}
        code = str(row.get("code") or "")[:12]
        text.append(
            f"pretrain {row.get('version', '')} {code}, torch {packages.get('torch', '')}, "
            f"Python {row.get('python', '')}"
        )
        yield Event(int(row["step"]), str(row.get("time", "")).replace("T", " ").removesuffix("+00:00"), text)


def _alarm(row: Row) -> Event:
    name = f"{row.get('task', '')}/{row.get('metric', '')}".strip("/")
    said = str(row.get("event", "event")).replace("_", " ")
    value = row.get("value")
    text = f"alarm: {name} {said}" if name else said
    if isinstance(value, int | float):
        text += f" at {words(float(value))}"
    bounds = [f"{side} {words(float(row[side]))}" for side in ("low", "high") if isinstance(row.get(side), int | float)]
    return Event(
        int(row["step"]), str(row.get("time", "")), [text + (f" (healthy: {', '.join(bounds)})" if bounds else "")]
    )


def _rejected(facts: Facts) -> Iterable[Event]:
    """One event a kind, where it was first seen."""
    for kind, count in facts.rejected.kinds.items():
        first = facts.rejected.first[kind]
        sample = f"{first.get('shard', '')} {first.get('key', '')}".strip()
        text = [f"quarantine: {count:,} sample{'s' * (count != 1)}, {kind.replace('_', ' ')}"]
        yield Event(int(first["step"]), "", [*text, f"first: {sample}: {first.get('reason', '')}"])
