"""What a checkpoint's files must be, byte for byte. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pretrain.checkpoint.disk import regular_size
from pretrain.checkpoint.folder import MANIFEST, NAME, STATE, directory_name

# Readers take no more of a JSON file into memory: what is larger was not written by us.
LARGEST_JSON = 256 << 20
_FILE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Damaged(Exception):
    """A checkpoint is not what was published; carries what is wrong with it."""


def manifest(step: int, files: Mapping[str, tuple[int, str]]) -> bytes:
    """The manifest of a checkpoint: step, and each file's size and SHA-256."""
    entries = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in files.items()}
    return json.dumps({"step": step, "files": entries}, indent=1, sort_keys=True).encode()


def verify(path: Path) -> None:
    """Compares the files of a checkpoint with its manifest.

    Raises:
        Damaged: a file is missing, surplus, unreadable, no regular file, of another size or content, or there is no
            readable manifest.
    """
    try:
        step, expected = _parse(read_json(path / MANIFEST))
    except (Damaged, OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise Damaged(f"{MANIFEST} is missing or unreadable ({error or type(error).__name__})") from None
    if NAME.fullmatch(path.name) and path.name != directory_name(step):
        raise Damaged(f"{MANIFEST} is that of step {step}")
    try:
        _compare(path, expected)
    except OSError as error:
        raise Damaged(f"unreadable: {error}") from None


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        Damaged: it is no such file, too large or too deeply nested, or has numbers that JSON does not know.
        OSError: it cannot be read.
    """
    size = regular_size(path)
    if size > LARGEST_JSON:
        raise Damaged(f"{path.name} has {size} bytes, more than any checkpoint's")
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} is not readable as JSON ({type(error).__name__})") from None


def verified_json(path: Path, name: str) -> Any:
    """The value of a checkpoint's JSON file ``name``, of which alone every byte is compared with the manifest.

    Raises:
        Damaged: it, or the manifest, is not what was published.
    """
    try:
        size, digest = _parse(read_json(path / MANIFEST))[1][name]
        if regular_size(path / name) == size and digest_of(path / name) == digest:
            return read_json(path / name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise Damaged(f"{name} or {MANIFEST} is unreadable ({error or type(error).__name__})") from None
    raise Damaged(f"{name} has another content than was written")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def natural(value: Any) -> int:
    """``value`` if it is a whole number of at least 0.

    Raises:
        ValueError: it is anything else, ``true`` and ``1.0`` included.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.40} where a number is expected")
    return value


def _parse(found: Any) -> tuple[int, dict[str, tuple[int, str]]]:
    if found.keys() != {"step", "files"}:
        raise ValueError("other entries than step and files")
    files = {}
    for name, entry in found["files"].items():
        if _FILE.fullmatch(name) is None or name == MANIFEST:
            raise ValueError(f"{name!r:.60} is no name of a checkpoint's file")
        if entry.keys() != {"bytes", "sha256"} or _DIGEST.fullmatch(entry["sha256"]) is None:
            raise ValueError(f"{name} has no size and digest")
        files[name] = (natural(entry["bytes"]), entry["sha256"])
    if STATE not in files:
        raise ValueError(f"{STATE} is not in it")
    return natural(found["step"]), files


def _compare(path: Path, expected: dict[str, tuple[int, str]]) -> None:
    present = set(os.listdir(path)) - {MANIFEST}
    for name in sorted(present ^ expected.keys()):
        raise Damaged(f"{name} is {'missing' if name in expected else 'not in the manifest'}")
    for name, (size, _) in sorted(expected.items()):  # what is cheap first
        actual = regular_size(path / name)
        if actual != size:
            raise Damaged(f"{name} has {actual} bytes instead of {size}")
    for name, (_, digest) in sorted(expected.items()):
        if digest_of(path / name) != digest:
            raise Damaged(f"{name} has another content than was written")


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
