"""``pretrain shards``: packs own data into shards, looks into shards, and says what a run saw."""

from __future__ import annotations

import argparse

from pretrain.verbs import card, check, index, ledger, options, pack, replay, stats

DESCRIPTION = "Packs own data into shards, looks into shards, and says what a run saw."
_MODULES = {
    "pack": (pack, "make shards from a folder of files or a table"),
    "check": (check, "say what shards hold, whether they are whole, and what occurs twice or cannot be decoded"),
    "stats": (stats, "measure sizes, durations, lengths, languages, labels"),
    "index": (index, "make indexes, and a manifest of very many shards"),
    "card": (card, "write a data card of shards or of a run"),
    "ledger": (ledger, "list the samples that a run saw, one line a step and task"),
    "replay": (replay, "list, or write to files, the samples of some steps of a run"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands; each leaves the function that carries it out in ``run``."""
    subcommands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name, (module, does) in _MODULES.items():
        own = subcommands.add_parser(name, help=does, description=module.DESCRIPTION)
        module.add_arguments(own)
        own.set_defaults(run=module.run)


def main(argv: list[str]) -> int:
    """Runs ``pretrain shards ARGV``.

    Returns:
        The exit code.

    Raises:
        InputError: wrong input.
        RunError: the input is right, and it could not be done.
    """
    parser = options.Parser(prog="pretrain shards", description=DESCRIPTION)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)
