"""``pretrain shards card``: a data card of shards, or of the data of a run."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import InputError, choices

if TYPE_CHECKING:
    from data.shards.source import Source
    from data.store.store import Store
    from data.stream import Stream
    from data.survey.card import Card, SourceEntry, TaskEntry

DESCRIPTION = (
    "Writes a data card in Markdown: the sources with counts, sizes, shares, what their members measure, languages, "
    "licences and fingerprints; of a run (--run) also which tasks drew how much from which source. Each PATTERN is a "
    "source, NAME=PATTERN one with a name of its own."
)
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    from pretrain.verbs import options

    options.add_pattern(parser, "*")
    add = parser.add_argument
    add("--run", metavar="RUN", dest="run_dir", type=Path, help="of the sources of this run instead")
    add("--out", metavar="CARD.md", type=Path, help="where it goes (default: printed)")
    add("--overwrite", action="store_true", help="replace a card that is there")
    add("--title", metavar="TEXT", help="its heading")
    add("--licence", "--license", metavar="NAME=TEXT", action="append", default=[], help="of a source; may be repeated")
    add("--origin", metavar="NAME=TEXT", action="append", default=[], help="where a source comes from; may be repeated")
    add("--duplicates", action="store_true", help="count samples of the same content, within and across sources")
    options.add_measures(parser)
    options.add_workers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, and writes the card.

    Raises:
        InputError: a shard cannot be read, RUN is no run directory, or an argument does not fit.
    """
    from data.survey.card import markdown
    from pretrain.verbs import options

    if bool(arguments.pattern) == bool(arguments.run_dir):
        raise InputError("give the shards of the card, or --run RUN: one of them")
    out: Path | None = arguments.out.expanduser() if arguments.out else None
    if out is not None and out.exists() and not arguments.overwrite:
        raise InputError(f"--out '{out}' exists already: use another name, or --overwrite")
    store = options.store_of(arguments)
    text = markdown(_of_run(arguments, store) if arguments.run_dir else _of_shards(arguments, store))
    if out is None:
        print(text, end="")
        return 0
    try:
        out.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"--out '{out}' cannot be written: {error.strerror}") from None
    return 0


def named(patterns: list[str]) -> dict[str, str]:
    """Name of each source -> its pattern."""
    found: dict[str, str] = {}
    for pattern in patterns:
        match = None if os.path.exists(pattern) else _NAMED.fullmatch(pattern)
        name, rest = (match[1], match[2]) if match else (_name_of(pattern), pattern)
        if match and name in found:
            raise InputError(f"two sources are named '{name}': '{found[name]}' and '{rest}'")
        number, unique = 2, name
        while unique in found:
            number, unique = number + 1, f"{name}-{number}"
        found[unique] = rest
    return found


def _name_of(pattern: str) -> str:
    """What the pattern's last part without wildcards, or its folder, is called."""
    parts = [part for part in pattern.partition("?")[0].rstrip("/").split("/") if part]
    for part in reversed(parts):
        stem = re.match(r"[^*?\[{]*", part.removesuffix(".tar").removesuffix(".jsonl"))
        name = re.sub(r"[-_.]+\d*$", "", stem[0]) if stem else ""
        if name:
            return name
    return "shards"


def _said(given: list[str], option: str, names: list[str]) -> dict[str, str]:
    """Source -> what is said of it; without ``NAME=`` it is said of the only source.

    Raises:
        InputError: there is no such source, or it is not said of which one.
    """
    known = {part: name for name in names for part in name.split(", ")}
    found = {}
    for one in given:
        name, equals, text = one.partition("=")
        if name not in known and len(names) == 1 and not _NAMED.fullmatch(one):
            name, equals, text = next(iter(known)), "=", one
        if not equals or name not in known:
            raise InputError(f"{option} '{one}' must be NAME=TEXT with the name of a source; {choices(name, known)}")
        found[known[name]] = text
    return found


def _of_shards(arguments: argparse.Namespace, store: Store) -> Card:
    from data.survey.card import Card

    patterns = named(arguments.pattern)
    sources, duplicates = _entries(patterns, arguments, store)
    return Card(arguments.title or "Data card", sources, duplicates=duplicates)


def _of_run(arguments: argparse.Namespace, store: Store) -> Card:
    from data.survey.card import Card
    from pretrain import ledger
    from pretrain.run import RunDirectory

    if not (arguments.run_dir.expanduser() / "config.yaml").is_file():
        raise InputError(f"'{arguments.run_dir}' is not a run directory (it has no config.yaml)")
    directory = RunDirectory(str(arguments.run_dir), rank=-1)
    config, streams = ledger.config_of(directory), ledger.streams_of(directory, store)
    done = ledger.steps_done(directory)
    tasks: list[TaskEntry] = []
    same: dict[str, list[Source]] = {}  # tasks may draw from the same shards
    for task, stream in streams.items():
        tasks.append(_task(task, config["tasks"][task], stream, ledger.position_after(directory, task, done)))
        for source in stream.sources:
            same.setdefault(stream.fingerprint()[source.name], []).append(source)
    patterns = {", ".join(source.name for source in sources): sources[0].pattern for sources in same.values()}
    sources, duplicates = _entries(patterns, arguments, store)
    line = f"Run `{config['name']}`, {done:,} of {config['max_steps']:,} steps, seed {config['seed']}."
    return Card(arguments.title or f"Data of run {config['name']}", sources, [line], tasks, duplicates)


def _task(name: str, config: Mapping[str, Any], stream: Stream, position: int) -> TaskEntry:
    from data.survey.card import Drawn, TaskEntry

    if stream.segments[-1].position > position:
        raise InputError(f"the sources of task '{name}' are other ones now than the run was made with")
    parts = stream.segments[-1].parts
    drawn = [
        Drawn(source, parts[source].weight, count, epochs)
        for source, (count, epochs) in stream.progress(position).items()
    ]
    drawn += [Drawn(source, 0.0, part.seen, 0.0) for source, part in parts.items() if not part.weight and part.seen]
    return TaskEntry(name, config["batch_size"], _weight(config["weight"]), drawn)


def _weight(value: Any) -> str:
    """A number, or what :func:`pretrain.optim.weights.task_weight` takes for one that changes."""
    if not isinstance(value, Mapping):
        return f"{value:g}"
    unit = "steps" if "steps" in value else "samples"
    return f"from {value['from']:g} to {value['to']:g} over {value[unit]:,} {unit}"


def _entries(
    patterns: Mapping[str, str | Sequence[str]], arguments: argparse.Namespace, store: Store
) -> tuple[list[SourceEntry], int | None]:
    from data.shards.source import Source
    from data.survey import repeats
    from data.survey.card import SourceEntry
    from pretrain.verbs import comparing, measuring, options, survey

    workers = options.workers_of(arguments)
    licences = _said(arguments.licence, "--licence", list(patterns))
    origins = _said(arguments.origin, "--origin", list(patterns))
    entries: list[SourceEntry] = []
    compared: dict[str, bytes] = {}
    for name, pattern in patterns.items():
        shards = survey.shards_of(name, pattern, store)
        held = list(survey.summaries(shards, store, workers))
        samples = [summary.samples for summary in held]
        entry = SourceEntry(
            name,
            pattern if isinstance(pattern, str) else "::".join(pattern),
            len(shards),
            sum(samples),
            sum(summary.bytes for summary in held),
            Source(name, pattern, store).fingerprint(),
            measuring.measure(shards.urls, samples, store, workers, arguments),
            licences.get(name, ""),
            origins.get(name, ""),
            sum(bool(summary.damage) for summary in held),
        )
        if arguments.duplicates:
            own = comparing.digests(shards.urls, samples, store, workers)
            entry.duplicates = repeats.find(own, 0).surplus
            compared.update(zip(shards.urls, own, strict=True))  # two sources may have shards in common
        entries.append(entry)
    return entries, repeats.find(list(compared.values()), 0).surplus if arguments.duplicates else None
