"""What several verbs take on their command lines. Imports nothing large: help answers at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data.errors import InputError
from pretrain.host import cores

if TYPE_CHECKING:
    from data.store.store import Store


class Parser(argparse.ArgumentParser):
    """A verb's command line: ``KEY=VALUE``, files and folders may stand before, between and behind options.

    By itself argparse takes a list of them from one place alone, and calls those behind the next option unknown. A verb
    that has verbs of its own hands this on to them.
    """

    _mixing = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """See :class:`argparse.ArgumentParser`."""
        if self._mixing or self._subparsers is not None:  # parse_known_intermixed_args comes by here itself
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def add_json(parser: argparse.ArgumentParser, what: str = "print one JSON object") -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", action="store_true", help=what)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", metavar="DEVICE", default="auto", help="auto (default), cpu or cuda")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust``."""
    about = "a package of your own that the run's config names"
    parser.add_argument("--trust", metavar="PACKAGE", action="append", default=[], help=about)


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config-dir``."""
    parser.add_argument(
        "--config-dir", metavar="DIR", type=os.path.expanduser, help="own config groups and experiments"
    )


def add_pattern(parser: argparse.ArgumentParser, many: str = "+") -> None:
    """Adds ``PATTERN...``."""
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs=many,
        help="path, folder, glob, {000000..000009}, URL (s3://, gs://, az://, https://), manifest (.jsonl), a::b",
    )
    add_store(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Adds what says where remote and packed shards are kept."""
    remote = parser.add_argument_group("shards that are not plain local tars")
    remote.add_argument("--cache", metavar="DIR", help="where they are kept (default: the user's cache folder)")
    remote.add_argument("--cache-size", metavar="SIZE", default="50GB", help="of it at most (default: 50GB)")
    remote.add_argument(
        "--allow-pipe", metavar="PIPE", action="append", default=[], help="run this command: exactly as in PATTERN"
    )


def add_measures(parser: argparse.ArgumentParser) -> None:
    """Adds what decides what is measured, and over how many samples."""
    add = parser.add_argument
    add("--samples", metavar="N", type=int, help="measure about N samples, evenly spread (default: all)")
    add("--tokenizer", metavar="FILE", help="tokenizer.json: count tokens of texts too")
    add("--language-field", metavar="FIELD", help="of the json member (default: language, else lang)")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workers``."""
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: one a core; 0: none but this)")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds ``--workers`` and ``--json``."""
    add_workers(parser)
    add_json(parser)


def workers_of(arguments: argparse.Namespace) -> int:
    """The number of processes asked for.

    Raises:
        InputError: it is negative.
    """
    if arguments.workers is None:
        return cores() if cores() > 1 else 0
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers} is not 0 or more")
    return arguments.workers


def store_of(arguments: argparse.Namespace) -> Store:
    """Where shards are read from."""
    from data.store.bytesize import parse_size
    from data.store.cache import Cache
    from data.store.store import Store

    cache = Cache(arguments.cache, parse_size(arguments.cache_size, "--cache-size"))
    return Store(cache, allowed_pipes=arguments.allow_pipe)
