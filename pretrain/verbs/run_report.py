"""``pretrain report``: a run's curves, events and results as one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from data.errors import InputError
from pretrain.verbs import options


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    found = options.Parser(
        prog="pretrain report",
        description="Writes RUN/report.html: curves, speed, events, results against chance, and the config, as "
        "one file that needs nothing else. A run writes it by itself, every report.every_s seconds and at its end.",
    )
    found.add_argument("run", metavar="RUN", help="run directory; the run may be at work")
    found.add_argument("--out", metavar="FILE", help="write it there instead")
    found.add_argument("--quiet", action="store_true", help="print nothing")
    return found


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: RUN is no run directory, or the file cannot be written.
    """
    arguments = parser().parse_args(argv)
    from pretrain.report.page import write_report

    try:
        written = write_report(Path(arguments.run), Path(arguments.out).expanduser() if arguments.out else None)
    except OSError as error:
        raise InputError(f"the report cannot be written to '{error.filename}': {error.strerror}") from None
    if not arguments.quiet:
        print(written)
    return 0
