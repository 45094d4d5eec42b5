"""What ``pretrain shards`` shows: a packing's report and the state of shards, as tables."""

from __future__ import annotations

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from data.check import ShardCheck, extensions
from data.pack.report import Report

_PIPED_WIDTH = 200


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED_WIDTH)


def show_report(report: Report) -> None:
    """Prints what was packed and what was left out."""
    console = _console()
    console.print(escape(f"{report.source} -> {report.folder}"))
    table = Table()
    for heading in ("shard", "samples", "size"):
        table.add_column(heading, justify="left" if heading == "shard" else "right", overflow="fold")
    for shard in report.shards:
        table.add_row(escape(shard["name"]), f"{shard['samples']:,}", decimal(shard["bytes"]))
    console.print(table)
    content = f"{decimal(report.bytes)} of content, {report.seconds:.1f} s"
    console.print(f"{report.samples:,} samples from {report.rows:,} rows, {content}")
    console.print(escape("fields: " + ", ".join(f"{role}={column}" for role, column in report.fields.items())))
    console.print(escape("members: " + _counts(report.members)))
    if set(report.splits):
        console.print(escape("splits: " + _counts(report.splits)))
    if not report.left_out:
        console.print("left out: nothing")
        return
    console.print("left out:")
    left_out = Table()
    for heading in ("reason", "count", "examples"):
        left_out.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for reason, entry in sorted(report.left_out.items(), key=lambda item: -item[1].count):
        left_out.add_row(escape(reason), f"{entry.count:,}", escape("\n".join(entry.examples)))
    console.print(left_out)


def show_check(shards: list[ShardCheck]) -> None:
    """Prints what shards hold and what is wrong with them."""
    console = _console()
    table = Table()
    for heading in ("shard", "samples", "size", "members", "remarks"):
        table.add_column(heading, justify="right" if heading in ("samples", "size") else "left", overflow="fold")
    for shard in shards:
        table.add_row(
            escape(shard.path),
            f"{shard.samples:,}",
            decimal(shard.bytes),
            escape(_counts(shard.extensions)),
            "\n".join(_remarks(shard)),
        )
    console.print(table)
    damaged = sum(bool(shard.damage) for shard in shards)
    console.print(
        f"{len(shards):,} shards, {sum(shard.samples for shard in shards):,} samples, "
        f"{decimal(sum(shard.bytes for shard in shards))}; {escape(_counts(extensions(shards)))}; "
        + (f"[red]{damaged} damaged[/red]" if damaged else "sound")
    )


def _remarks(shard: ShardCheck) -> list[str]:
    found = [f"[red]{escape(shard.damage)}[/red]"] if shard.damage else []
    for extension, lacking in shard.lacking.items():
        found.append(escape(f"{lacking.count} without {extension}, e.g. {lacking.examples[0]}"))
    return found


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
