"""The report of a packing: what was written, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from data.errors import SampleError

_EXAMPLES = 3


def report_name(prefix: str) -> str:
    """Name of the file beside the shards that holds the report."""
    return f"{prefix}-report.json"


class Unusable(SampleError):
    """A row or a file cannot become a sample.

    Attributes:
        reason: why, in words that many rows may share.
        detail: what exactly, for the examples; "" if the place says it all.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass
class LeftOut:
    """What was left out for one reason."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a packing did.

    Attributes:
        source: the input as it was named.
        folder: where the shards lie.
        fields: role (text, image, caption, ...) -> the field that was taken for it.
        rows: rows of the table or files of the folder that were looked at.
        samples: samples written; a document makes one for each of its pieces.
        bytes: content of the samples, bytes.
        members: extension -> number of samples that have it.
        splits: split -> number of samples.
        shards: for each shard its name, split, samples and bytes (of the tar file).
        left_out: reason -> what was left out for it.
        seconds: how long it took.
    """

    source: str
    folder: str
    fields: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    samples: int = 0
    bytes: int = 0
    members: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    shards: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    seconds: float = 0.0

    def leave(self, place: str, why: Unusable) -> None:
        """Notes that what lies at ``place`` is left out."""
        entry = self.left_out.setdefault(why.reason, LeftOut())
        entry.count += 1
        if len(entry.examples) < _EXAMPLES:
            entry.examples.append(f"{place} ({why.detail})" if why.detail else place)

    def reasons(self) -> str:
        """The reasons in one line, most frequent first, each with one example."""
        ranked = sorted(self.left_out.items(), key=lambda item: -item[1].count)
        return "; ".join(f"{reason}: {entry.count}, e.g. {entry.examples[0]}" for reason, entry in ranked)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        left_out = {reason: asdict(entry) for reason, entry in self.left_out.items()}
        return vars(self) | {"members": dict(self.members), "splits": dict(self.splits), "left_out": left_out}
