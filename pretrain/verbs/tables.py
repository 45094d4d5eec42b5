"""What ``pretrain shards pack`` and ``check`` show: a packing's report and the state of shards, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from data.pack.report import Report as Packed
from data.survey.check import Report, ShardCheck, members

_PIPED_WIDTH = 200
_SHARDS = 40
_EXAMPLES = 3


def console() -> Console:
    """The terminal, or something wider where the output goes elsewhere."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def show_report(report: Packed) -> None:
    """Prints what was packed and what was left out."""
    out = console()
    out.print(escape(f"{report.source} -> {report.folder}"))
    table = table_of("shard", "samples>", "size>")
    for shard in report.shards:
        table.add_row(escape(shard["name"]), f"{shard['samples']:,}", decimal(shard["bytes"]))
    out.print(table)
    content = f"{decimal(report.bytes)} of content, {report.seconds:.1f} s"
    out.print(f"{report.samples:,} samples from {report.rows:,} rows, {content}")
    out.print(escape("fields: " + ", ".join(f"{role}={column}" for role, column in report.fields.items())))
    out.print(escape("members: " + counts(report.members)))
    if set(report.splits):
        out.print(escape("splits: " + counts(report.splits)))
    if not report.left_out:
        out.print("left out: nothing")
        return
    out.print("left out:")
    left_out = table_of("reason", "count>", "examples")
    for reason, entry in sorted(report.left_out.items(), key=lambda item: -item[1].count):
        left_out.add_row(escape(reason), f"{entry.count:,}", escape("\n".join(entry.examples)))
    out.print(left_out)


def show_check(report: Report) -> None:
    """Prints what shards hold and what is wrong with them."""
    out, shards = console(), report.shards
    shown = [
        shard for shard in shards if len(shards) <= _SHARDS or shard.damage or shard.repeated.count or shard.lacking
    ]
    table = table_of("shard", "samples>", "size>", "members")
    for shard in shown[:_SHARDS]:
        names = (name if n == shard.samples else f"{name} {n:,}" for name, n in shard.members.items())
        table.add_row(escape(shard.shard), f"{shard.samples:,}", decimal(shard.bytes), escape(", ".join(names)))
    if shown:
        out.print(table)
    if len(shown) < len(shards) or len(shown) > _SHARDS:
        more = f", and {len(shown) - _SHARDS:,} more with remarks" if len(shown) > _SHARDS else ""
        out.print(f"not listed: {len(shards) - len(shown):,} sound shards{more}")
    if shown:
        out.print()
    for shard in shown[:_SHARDS]:
        for remark in _remarks(shard):
            out.print(f"{escape(shard.shard)}: {remark}")
    size = decimal(sum(shard.bytes for shard in shards))
    held = escape(counts(members(shards)))
    out.print(f"{len(shards):,} shards, {sum(shard.samples for shard in shards):,} samples, {size}; {held}")
    for line in [*_repeats(report), *_bad(report)]:
        out.print(line)
    damaged = sum(bool(shard.damage) for shard in shards)
    wrong = [f"{damaged:,} damaged"] * bool(damaged)
    wrong += [f"{len(report.bad):,} members that cannot be used"] if report.bad else []
    out.print(f"[red]{', '.join(wrong)}[/red]" if wrong else "[green]sound[/green]")


def _remarks(shard: ShardCheck) -> list[str]:
    found = [f"[red]{escape(line)}[/red]" for line in shard.damage[:_EXAMPLES]]
    if len(shard.damage) > _EXAMPLES:
        found.append(f"[red]and {len(shard.damage) - _EXAMPLES} more damaged places[/red]")
    if shard.repeated.count:
        found.append(escape(f"{shard.repeated.count:,} keys of another sample, e.g. {shard.repeated.examples[0]}"))
    for extension, lacking in shard.lacking.items():
        found.append(escape(f"{lacking.count:,} without {extension}, e.g. {lacking.examples[0]}"))
    return found


def _repeats(report: Report) -> list[str]:
    found = []
    if report.keys.surplus:
        place = report.keys.groups[0]
        where = " and ".join(report.shards[number].shard for number, _ in place[:2])
        example = f"'{report.key_examples[0]}' in {where}"
        found.append(escape(f"keys: {report.keys.surplus:,} stand in another shard too, e.g. {example}"))
    if report.duplicates is not None and report.duplicates.surplus:
        found.append(f"duplicates: {report.duplicates.surplus:,} samples have the content of another one, e.g.")
        for group in report.duplicate_examples:
            found.append(escape("  " + " = ".join(f"{key} ({shard})" for shard, key in group)))
    elif report.duplicates is not None:
        found.append("duplicates: none")
    return found


def _bad(report: Report) -> list[str]:
    if not report.bad:
        return [f"decoded: {report.decoded:,} samples"] if report.decoded else []
    found = [f"undecodable, of {report.decoded:,} samples:" if report.decoded else "unreadable:"]
    for fault in report.bad[:_SHARDS]:
        member = f".{fault['member']}" if fault["member"] else ""
        found.append(escape(f"  {fault['shard']}  {fault['key']}{member}  {fault['reason']}"))
    if len(report.bad) > _SHARDS:
        found.append(f"  and {len(report.bad) - _SHARDS:,} more (--json lists all)")
    return found


def table_of(*headings: str) -> Table:
    """A table; the columns whose heading ends in ``>`` are numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        number = heading.endswith(">")
        table.add_column(heading.removesuffix(">"), justify="right" if number else "left", overflow="fold")
    return table


def counts(found: Mapping[str, int]) -> str:
    """``jpg 3, txt 2``."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())
