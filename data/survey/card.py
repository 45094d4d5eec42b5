"""A data card: what a data set, or the data of a run, consists of, as Markdown that goes with a model or a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from data.survey.spread import Spread
from data.survey.stats import Stats
from data.words import byte_size, duration

_SHOWN = 20
NOT_STATED = "not stated"


@dataclass
class SourceEntry:
    """A source on a card.

    Attributes:
        name: of the source.
        pattern: what its shards were named by.
        shards, samples, bytes: how many there are; bytes as they are stored.
        fingerprint: SHA-256 of its shard list: names, sample counts and sizes.
        stats: what was measured.
        licence, origin: as given; "" where nobody said.
        damaged: shards that are damaged.
        duplicates: samples that have the content of another sample of the source; None if contents were not compared.
    """

    name: str
    pattern: str
    shards: int
    samples: int
    bytes: int
    fingerprint: str
    stats: Stats
    licence: str = ""
    origin: str = ""
    damaged: int = 0
    duplicates: int | None = None


@dataclass
class Drawn:
    """What a task drew from a source: the weight asked for, and what it came to."""

    source: str
    weight: float
    samples: int
    epochs: float


@dataclass
class TaskEntry:
    """A task of a run, and what it has drawn from its sources so far."""

    name: str
    batch_size: int
    weight: str
    drawn: list[Drawn]


@dataclass
class Card:
    """All that a card says.

    Attributes:
        title: its heading.
        sources: one a source.
        lines: what else there is to say at the top.
        tasks: of the run, empty for a card of shards.
        duplicates: samples of any source that have the content of another one; None if contents were not compared.
    """

    title: str
    sources: list[SourceEntry]
    lines: list[str] = field(default_factory=list)
    tasks: list[TaskEntry] = field(default_factory=list)
    duplicates: int | None = None


def markdown(card: Card) -> str:
    """The card as text."""
    parts = [f"# {card.title}", *card.lines, _overview(card)]
    if card.duplicates is not None:
        parts.append(f"Exact duplicates over all sources: {card.duplicates:,} samples.")
    parts += [_task(task) for task in card.tasks]
    parts += [_source(source) for source in card.sources]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(card: Card) -> str:
    samples, size = sum(s.samples for s in card.sources), sum(s.bytes for s in card.sources)
    rows = [
        (
            source.name,
            f"{source.shards:,}",
            f"{source.samples:,}",
            _share(source.samples, samples),
            byte_size(source.bytes),
            _share(source.bytes, size),
            source.licence or NOT_STATED,
        )
        for source in card.sources
    ]
    if len(rows) > 1:
        shards = sum(source.shards for source in card.sources)
        rows.append(("all", f"{shards:,}", f"{samples:,}", "", byte_size(size), "", ""))
    head = ("source", "shards>", "samples>", "share>", "size>", "share of size>", "licence")
    return "## Sources\n\n" + _table(head, rows)


def _task(task: TaskEntry) -> str:
    weights, drawn = sum(one.weight for one in task.drawn), sum(one.samples for one in task.drawn)
    rows = [
        (
            one.source,
            f"{one.weight:g}",
            _share(one.weight, weights),
            f"{one.samples:,}",
            _share(one.samples, drawn),
            f"{one.epochs:.3g}",
        )
        for one in task.drawn
    ]
    head = ("source", "weight>", "share asked for>", "samples drawn>", "share drawn>", "epochs>")
    line = f"Global batch {task.batch_size:,}, weight of the loss {task.weight}."
    return f"## Task `{task.name}`\n\n{line}\n\n{_table(head, rows)}"


def _source(source: SourceEntry) -> str:
    stats = source.stats
    facts = [
        ("origin", source.origin or NOT_STATED),
        ("licence", source.licence or NOT_STATED),
        ("shards", f"`{source.pattern}`"),
        ("fingerprint", f"`{source.fingerprint}`"),
    ]
    if source.damaged:
        facts.append(("damaged shards", f"{source.damaged:,}"))
    if source.duplicates is not None:
        facts.append(("exact duplicates", f"{source.duplicates:,} samples"))
    if stats.samples < source.samples:
        facts.append(("measured", f"{stats.samples:,} of {source.samples:,} samples, evenly spread"))
    for name, held in (
        ("languages", stats.languages),
        ("licences of samples", stats.licences),
        ("labels", stats.labels),
    ):
        if held:
            shown = ", ".join(f"{value} {count:,}" for value, count in held.most_common(_SHOWN))
            more = f", and {len(held) - _SHOWN:,} more" if len(held) > _SHOWN else ""
            facts.append((f"{name} ({len(held):,})", _line(shown + more)))
    if stats.unreadable:
        count = sum(number for number, _ in stats.unreadable.values())
        facts.append(("unreadable", f"{count:,} members; most: {_line(next(iter(stats.unreadable)))}"))
    lines = "\n".join(f"- {name}: {value}" for name, value in facts)
    members = _table(("member", "samples>", "size>", "what"), _members(stats))
    return f"## Source `{source.name}`\n\n{lines}\n\n{members}"


def _members(stats: Stats) -> Iterable[tuple[str, ...]]:
    for extension, sizes in sorted(stats.bytes.items()):
        what = ""
        if extension in stats.pictures:
            picture = stats.pictures[extension]
            what = f"{_between(picture.width)} x {_between(picture.height)} pixels"
        elif extension in stats.sounds:
            sound = stats.sounds[extension]
            rates = ", ".join(f"{rate:,} Hz" for rate, _ in sound.rates.most_common(3))
            what = f"{duration(sound.seconds.total)}; {_between(sound.seconds)} s each; {rates}"
        elif extension in stats.texts:
            text = stats.texts[extension]
            what = f"{text.characters.total:,} characters; {_between(text.characters)} each"
            if text.tokens.count:
                what += f"; {text.tokens.total:,} tokens; {_between(text.tokens)} each"
        yield extension, f"{sizes.count:,}", byte_size(sizes.total), what


def _between(spread: Spread) -> str:
    least, middle, most = (f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}" for value in _three(spread))
    return least if least == most else f"{least} to {most} (median {middle})"


def _three(spread: Spread) -> tuple[float, float, float]:
    return spread.least, spread.at(0.5), spread.greatest


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns whose heading ends in ``>`` are numbers."""
    lines = [[name.removesuffix(">") for name in head], ["---:" if name.endswith(">") else "---" for name in head]]
    lines += [[_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: str) -> str:
    """On one line: names in data may hold anything."""
    return re.sub(r"\s+", " ", text)
