"""``pretrain runs``: which runs there are, how they stand, how they differ; follow, mirror and stop them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.markup import escape

from data.errors import InputError
from data.words import duration
from pretrain.runs.comparison import compare
from pretrain.runs.following import Following
from pretrain.runs.search import find, the_run
from pretrain.runs.stopping import stop
from pretrain.runs.summary import FAILED, INTERRUPTED, RUNNING, STATES, Summary, summarise
from pretrain.runs.words import ago, number, share
from pretrain.verbs import options
from pretrain.verbs.runs_show import show
from pretrain.verbs.runs_sync import add_options, sync
from pretrain.verbs.tables import console, table_of

DEFAULT_FOLDER = "runs"
_COLOURS = {RUNNING: "green", INTERRUPTED: "yellow", FAILED: "red"}


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain runs", description="Which runs there are and how they stand.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    text = f"a line for each run below FOLDER (default: {DEFAULT_FOLDER}), the latest first"
    listing = verbs.add_parser("list", help=text, description=text)
    listing.add_argument("places", metavar="FOLDER", nargs="*", default=[DEFAULT_FOLDER])
    listing.add_argument("--state", metavar="STATE", help=f"only those in these states: {', '.join(STATES)}")
    text = "one run: how often it started, where, what it measured, what happened"
    one = verbs.add_parser("show", help=text, description=text)
    text = "runs side by side: the settings in which they differ, and their results"
    several = verbs.add_parser("compare", help=text, description=text)
    several.add_argument("places", metavar="RUN", nargs="+", help="run directories, or folders of them")
    several.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page with their curves, settings and results"
    )
    text = "the last steps"
    tail = verbs.add_parser("tail", help=text, description=text)
    tail.add_argument("-n", "--lines", metavar="N", type=int, default=10, help="how many (default: 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="and those to come, until nobody works on it")
    text = "ask a run to save and stop after its step; the command that began it continues it"
    stopping = verbs.add_parser("stop", help=text, description=text)
    stopping.add_argument("--wait", metavar="S", type=float, default=300.0, help="seconds; 0: do not wait")
    text = "give the run's trackers (logger=...) what they lack; how docs/watching.md says"
    syncing = verbs.add_parser("sync", help=text, description=text)
    add_options(syncing)
    for verb in (one, tail, stopping, syncing):
        verb.add_argument("run", metavar="RUN", help="run directory")
    for verb in (listing, one, several):
        options.add_json(verb)
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: a place is no run directory, or an option has no sense.
        RunError: a run could not be stopped, or a tracker not be reached.
    """
    arguments = parser().parse_args(argv or ["list"])
    if arguments.verb == "list":
        _list(arguments)
    elif arguments.verb == "compare":
        _compare(arguments)
    elif arguments.verb == "show":
        show(the_run(arguments.run), arguments.json)
    elif arguments.verb == "sync":
        sync(the_run(arguments.run), arguments)
    elif arguments.verb == "stop":
        if arguments.wait < 0:
            raise InputError(f"--wait {arguments.wait:g} is not 0 or more")
        print(f"{arguments.run}: {stop(the_run(arguments.run), arguments.wait)}")
    else:
        following = Following(the_run(arguments.run), arguments.lines)
        for line in following.so_far():
            print(line, flush=True)
        for line in following.further() if arguments.follow else ():
            print(line, flush=True)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    states = STATES if arguments.state is None else tuple(arguments.state.split(","))
    unknown = [state for state in states if state not in STATES]
    if unknown:
        raise InputError(f"--state '{unknown[0]}' is none of {', '.join(STATES)}")
    if arguments.places == [DEFAULT_FOLDER] and not Path(DEFAULT_FOLDER).is_dir():
        raise InputError(f"there is no folder '{DEFAULT_FOLDER}' here; pretrain runs list FOLDER")
    every = sorted(map(summarise, find(arguments.places)), key=lambda run: (-run.seen, run.path))
    found = [run for run in every if run.state in states]
    if arguments.json:
        print(json.dumps({"runs": [run.as_json() for run in found]}))
        return
    out = console()
    table = table_of("run", "state", "step>", "loss>", "samples/s>", "left>", "goodput>", "saved>", "last sign", "host")
    for run in found:
        table.add_row(*_cells(run))
    out.print(table)
    for run in found:
        if run.cause:
            out.print(escape(f"{run.path}: {run.cause}"), soft_wrap=True)
    counts = ", ".join(f"{sum(run.state == state for run in found)} {state}" for state in STATES)
    out.print(f"{len(found)} runs: {counts}")


def _cells(run: Summary) -> list[str]:
    colour = _COLOURS.get(run.state)
    state = f"[{colour}]{run.state}[/{colour}]" if colour else run.state
    return [
        escape(run.path),
        state,
        f"{run.step:,}/{run.max_steps:,}" if run.max_steps else "",
        number(run.loss),
        number(run.samples_per_s or None),
        duration(run.seconds_left),
        share(run.goodput),
        f"{run.checkpoint:,}" if run.checkpoint is not None else "none",
        ago(run.seen),
        escape(run.host),
    ]


def _compare(arguments: argparse.Namespace) -> None:
    folders = find(arguments.places)
    if len(folders) < 2:
        raise InputError(
            f"{len(folders)} run directories in {', '.join(arguments.places)}; two or more can be compared"
        )
    if arguments.html is not None:
        _page(folders, arguments)
        return
    found = compare(folders)
    if arguments.json:
        print(json.dumps(found.as_json()))
        return
    out = console()
    names = [run.path for run in found.runs]
    table = table_of("", *(f"{escape(name)}>" for name in names))
    table.add_row("state", *(run.state for run in found.runs))
    table.add_row("step", *(f"{run.step:,}/{run.max_steps:,}" for run in found.runs))
    table.add_row("samples/s", *(number(run.samples_per_s or None) for run in found.runs))
    table.add_row("goodput", *(share(run.goodput) for run in found.runs))
    table.add_section()
    for name, values in found.results.items():
        table.add_row(escape(name), *(number(value) for value in values))
    table.add_section()
    for key, settings in found.settings.items():
        table.add_row(escape(key), *(escape(_text(value)) for value in settings))
    out.print(table)


def _page(folders: list[Path], arguments: argparse.Namespace) -> None:
    from pretrain.report.comparison import MOST, write_comparison

    if arguments.json:
        raise InputError("--html and --json exclude one another: one is a page, the other is printed")
    if len(folders) > MOST:
        raise InputError(f"{len(folders)} run directories in {', '.join(arguments.places)}; a page has room for {MOST}")
    try:
        print(write_comparison(folders, arguments.html))
    except OSError as error:
        raise InputError(f"--html '{arguments.html}' cannot be written: {error.strerror}") from None


def _text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)
