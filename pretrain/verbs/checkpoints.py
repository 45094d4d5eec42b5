"""``pretrain checkpoints``: list, verify and digest what a run has published."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from data.errors import InputError


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = argparse.ArgumentParser(prog="pretrain checkpoints", description="Look at the checkpoints of a run.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (
        ("list", "steps, sizes, and whether each is sound"),
        ("verify", "exit code 0 if every checkpoint is sound, 1 if one is damaged"),
        ("digest", "one JSON line: step and SHA-256 of the newest sound checkpoint's logical content"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("run", metavar="RUN", help="run directory, or one step-XXXXXXXX folder")
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: RUN holds no checkpoint.
    """
    arguments = parser().parse_args(argv)
    from pretrain import checkpoint

    run = Path(arguments.run)
    if arguments.verb == "digest":
        content = checkpoint.find(run)
        print(json.dumps({"step": content.step, "sha256": checkpoint.digest(content)}))
        return 0
    single = run.name.startswith("step-") and run.is_dir()
    paths = [run] if single else checkpoint.published(run / "checkpoints")
    if not paths:
        raise InputError(f"'{run}' holds no checkpoint (a run directory or a step-XXXXXXXX folder is expected)")
    damaged = 0
    for path in paths:
        size = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
        try:
            checkpoint.verify(path)
            verdict = "sound"
        except checkpoint.Damaged as error:
            verdict, damaged = f"damaged: {error}", damaged + 1
        print(f"{path.name}  {size / 1e6:8.1f} MB  {verdict}")
    return 1 if damaged and arguments.verb == "verify" else 0
