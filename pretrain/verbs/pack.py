"""``pretrain shards pack``: a folder of files or a table into shards."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError, RunError
from data.store.bytesize import parse_size
from pretrain.verbs import options

if TYPE_CHECKING:
    from data.pack.pack import Packing
    from data.pack.report import Report
    from data.pack.row import Source

_FEW = 100  # samples of which a small share may well be none
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Splits, in any spelling, whose texts a tokenizer must not have seen.
_HELD_OUT = {"val", "valid", "validation", "test", "dev"}

DESCRIPTION = (
    "Makes WebDataset shards of text documents, images or audio. Fields that are not named are detected. "
    "A field may be nested: captions.en. "
    "A folder of files has the fields file, folder and, from STEM.txt beside a file, caption."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    add = parser.add_argument
    inputs = "folder, table (jsonl, csv, tsv), folder of tables, or a quoted glob of these"
    add("input", metavar="INPUT", nargs="+", help=inputs)
    add("--out", metavar="DIR", type=Path, required=True, help="where the shards go")
    add("--name", metavar="PREFIX", help="what their names begin with (default: name of the input)")
    add("--text", metavar="FIELD", help="field that holds documents")
    add("--image", metavar="FIELD", help="field that names image files, relative to the table")
    add("--audio", metavar="FIELD", help="field that names audio files, relative to the table")
    add("--caption", metavar="FIELD", help="text of an image or audio file; rows without it are left out")
    add("--label", metavar="FIELD", help="class; 'folder' is the parent folder's name; rows without it are left out")
    add("--key", metavar="FIELD", help="names the samples (default: path of the file, or table and row number)")
    add("--max-size", metavar="SIZE", default="256MB", help="largest shard, e.g. 500MB or 1GiB (default: 256MB)")
    add(
        "--max-characters",
        metavar="N",
        type=int,
        default=8000,
        help="longer documents are cut at paragraph or sentence ends; 0 keeps them whole (default: 8000)",
    )
    splits = parser.add_mutually_exclusive_group()
    splits.add_argument("--val", metavar="SHARE", type=float, help="share that goes to PREFIX-val, chosen by key: 0.05")
    splits.add_argument("--split", metavar="FIELD", help="field that says which split a row goes to")
    add(
        "--tokenizer",
        metavar="VOCAB_SIZE",
        type=int,
        help="train a byte-level BPE on the texts that are not set aside: DIR/tokenizer.json",
    )
    add("--overwrite", action="store_true", help="replace shards of the same name")
    options.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Packs, and prints what was packed and what was left out.

    Raises:
        InputError: an argument does not fit, or the input cannot be packed.
        RunError: the disk does not take it, or does not give it.
    """
    from data.pack.source import default_prefix, locate
    from pretrain.verbs import tables

    given, *more = arguments.input
    if more:
        raise InputError(
            f"pack takes one INPUT, got {', '.join(arguments.input)}: pack held-out ones into another --out (for "
            "data.heldout), and several of one kind by a folder or a quoted glob"
        )
    packing = _packing(arguments, arguments.name or default_prefix(given))
    out = arguments.out.expanduser()
    tokenizer = out / "tokenizer.json"
    if arguments.tokenizer is not None and tokenizer.exists() and not arguments.overwrite:
        raise InputError(f"'{tokenizer}' exists already: use another --out, or --overwrite")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out '{out}' is not a folder")
    try:
        report = _packed(locate(given), out, packing)
    except OSError as error:
        raise RunError(f"'{error.filename or out}': {error.strerror}; nothing was packed") from None
    entries = 0
    if arguments.tokenizer is not None:
        entries = _train_tokenizer(report, arguments.tokenizer, tokenizer)
    if arguments.json:
        print(json.dumps(report.as_json()))
        return 0
    tables.show_report(report)
    if entries:
        fewer = f" (the texts give no more than that, {arguments.tokenizer:,} were asked for)"
        print(f"tokenizer: {tokenizer}, {entries:,} entries{fewer if entries < arguments.tokenizer else ''}")
    if arguments.val is not None and not report.splits["val"]:
        whole = ", or more documents: what is cut from one, or belongs to one file, stays together"
        hint = f"give a larger --val{whole if report.samples > _FEW else ''}"
        print(f"val: none of {report.samples:,} samples fell to a share of {arguments.val:g}; {hint}")
    return 0


def _packing(arguments: argparse.Namespace, prefix: str) -> Packing:
    from data.pack.fields import Fields
    from data.pack.pack import Packing

    if not _NAME.fullmatch(prefix):
        raise InputError(f"--name '{prefix}' must consist of letters, digits, '.', '_' and '-'")
    if arguments.val is not None and not 0 < arguments.val < 1:
        raise InputError(f"--val {arguments.val:g} must lie between 0 and 1, e.g. 0.05")
    if arguments.tokenizer is not None:
        from modalities.text.tokenizer import LEAST

        if arguments.tokenizer < LEAST:
            raise InputError(
                f"--tokenizer {arguments.tokenizer} is too small; a byte-level vocabulary needs {LEAST} or more"
            )
    if arguments.max_characters < 0:
        raise InputError(f"--max-characters {arguments.max_characters} must be 0 (no limit) or more")
    roles = ("text", "image", "audio", "caption", "label", "key", "split")
    return Packing(
        prefix=prefix,
        fields=Fields(**{role: getattr(arguments, role) for role in roles}),
        max_characters=arguments.max_characters,
        max_bytes=parse_size(arguments.max_size, "--max-size"),
        val=arguments.val,
        overwrite=arguments.overwrite,
    )


def _packed(source: Source, out: Path, packing: Packing) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from data.pack.pack import pack

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(f"packing {source.name}")
        return pack(source, out, packing, lambda done, total: progress.update(task, completed=done, total=total))


def _train_tokenizer(report: Report, entries: int, target: Path) -> int:
    """Trains it on what is not set aside, and writes it; how many entries it has."""
    from data.pack.texts import texts
    from modalities.text.tokenizer import train

    if not report.members["txt"]:
        raise InputError(f"--tokenizer {entries} needs texts, and the samples of '{report.source}' have none")
    shards = [shard["name"] for shard in report.shards if shard["split"].lower() not in _HELD_OUT]
    if not shards:
        raise InputError(f"--tokenizer {entries} needs samples to train on, and all are in: {', '.join(report.splits)}")
    trained = train(texts([target.parent / name for name in shards]), entries)
    trained.save(str(target))
    return int(trained.get_vocab_size())
