"""What ``pretrain shards stats`` and ``index`` show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from data.survey.spread import Spread
from data.survey.stats import Stats
from data.words import duration
from pretrain.verbs.tables import console, counts, table_of

_SHOWN = 20
Words = Callable[[float], str]


def show_stats(found: Stats, samples: Spread, sizes: Spread, damaged: list[str]) -> None:
    """Prints what was counted (``samples`` and ``sizes`` of each shard) and measured."""
    out = console()
    out.print(f"{samples.count:,} shards, {int(samples.total):,} samples, {size(sizes.total)}")
    out.print(f"samples a shard: {between(samples, number)}; size of a shard: {between(sizes, size)}")
    for url in damaged:
        out.print(f"[red]{escape(url)} is damaged[/red] (see pretrain shards check)")
    if found.samples < samples.total:
        out.print(f"measured: {found.samples:,} samples, evenly spread")
    table = table_of("member", "samples>", "share>", "total>", "mean>", "min>", "median>", "max>")
    for extension, spread in sorted(found.bytes.items()):
        share = f"{100 * spread.count / max(1, found.samples):.3g} %"
        cells = (number(spread.count), share, size(spread.total), size(spread.mean), *three(spread, size))
        table.add_row(escape(extension), *cells)
    out.print()
    out.print(table)
    _pictures(out, found)
    _sounds(out, found)
    _texts(out, found)
    out.print()
    for name, held in (("languages", found.languages), ("labels", found.labels)):
        if held:
            more = f", ... ({len(held) - _SHOWN:,} more)" if len(held) > _SHOWN else ""
            out.print(escape(f"{name} ({len(held):,}): {counts(dict(held.most_common(_SHOWN)))}{more}"))
    for reason, (count, examples) in sorted(found.unreadable.items(), key=lambda item: -item[1][0]):
        out.print(f"[red]{count:,} unreadable[/red]: " + escape(f"{reason}, e.g. {examples[0]}"))


def _pictures(out: Console, found: Stats) -> None:
    if not found.pictures:
        return
    table = table_of("pictures", "", "min>", "median>", "max>")
    for extension, picture in sorted(found.pictures.items()):
        table.add_row(escape(extension), "width", *three(picture.width, number))
        table.add_row("", "height", *three(picture.height, number))
    out.print()
    out.print(table)


def _sounds(out: Console, found: Stats) -> None:
    if not found.sounds:
        return
    table = table_of("recordings", "total>", "min>", "median>", "max>", "sampling rates", "channels")
    for extension, sound in sorted(found.sounds.items()):
        rates = ", ".join(f"{rate:,} Hz {count:,}" for rate, count in sound.rates.most_common(5))
        channels = ", ".join(f"{channels}: {count:,}" for channels, count in sound.channels.most_common(5))
        table.add_row(escape(extension), duration(sound.seconds.total), *three(sound.seconds, seconds), rates, channels)
    out.print()
    out.print(table)


def _texts(out: Console, found: Stats) -> None:
    if not found.texts:
        return
    table = table_of("texts", "", "total>", "mean>", "min>", "median>", "max>")
    for extension, text in sorted(found.texts.items()):
        for name, spread in (("characters", text.characters), ("tokens", text.tokens)):
            if spread.count:
                first = escape(extension) if name == "characters" else ""
                table.add_row(first, name, number(spread.total), number(spread.mean), *three(spread, number))
    out.print()
    out.print(table)


def show_index(found: Mapping[str, Any]) -> None:
    """Prints how much there is, what is damaged and where the manifest is."""
    out = console()
    for url, lines in found["damaged"].items():
        if url not in found["empty"]:
            out.print(
                f"[red]{escape(url)}[/red]: {escape(lines[0])}" + f" (and {len(lines) - 1} more)" * (len(lines) > 1)
            )
    for url in found["empty"]:
        left_out = ", left out of the manifest" if found["manifest"] else ""
        out.print(f"[red]{escape(url)}[/red]: no sample{left_out}")
    held = escape(counts(found["members"]))
    out.print(f"{found['shards']:,} shards, {found['samples']:,} samples, {size(found['bytes'])}; {held}")
    if found["manifest"]:
        out.print(escape(f"manifest: {found['manifest']}"))


def between(spread: Spread, words: Words) -> str:
    """``3``, or ``1 to 9 (median 3)``."""
    if spread.least == spread.greatest:
        return words(spread.least)
    return f"{words(spread.least)} to {words(spread.greatest)} (median {words(spread.at(0.5))})"


def three(spread: Spread, words: Words) -> tuple[str, str, str]:
    """Least, middle and greatest."""
    return words(spread.least), words(spread.at(0.5)), words(spread.greatest)


def number(value: float) -> str:
    """With thousands marked."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in their unit."""
    return decimal(round(value))


def seconds(value: float) -> str:
    """Three digits."""
    return f"{value:.3g} s"
