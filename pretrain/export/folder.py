"""A folder in the layout of ``transformers``: written beside, checked, and renamed when it is right."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from data.errors import InputError, RunError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def publish(
    out: Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    files: dict[str, Any],
    checked: Callable[[Path], str],
    overwrite: bool,
) -> list[str]:
    """Writes the folder and returns the names of its files.

    Args:
        out: the folder; it appears whole or not at all.
        config: content of config.json.
        weights: content of model.safetensors.
        files: further files, of JSON or of text.
        checked: looks at the folder before it gets its name, and returns the text of README.md.
        overwrite: replace a folder that was exported before.

    Raises:
        InputError: ``out`` exists, or cannot be written.
        RunError: the disk is full.
    """
    if out.exists() and not overwrite:
        raise InputError(f"--out '{out}' exists already: use another name, or --overwrite")
    if out.exists() and not (out.is_dir() and (out / CONFIG).is_file()):
        raise InputError(f"--out '{out}' is no exported folder (it has no {CONFIG}); --overwrite does not replace it")
    partial = out.with_name(f".{out.name}.part-{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"--out '{out}' cannot be written: {error.strerror}") from None
    try:
        save_file(weights, partial / WEIGHTS, metadata={"format": "pt"})
        for name, content in {CONFIG: config, **files}.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (partial / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        (partial / CARD).write_text(checked(partial), encoding="utf-8", errors="backslashreplace")
        _flush(partial)
        if out.exists():
            old = out.with_name(f".{out.name}.old-{os.getpid()}")
            os.rename(out, old)
            os.rename(partial, out)
            shutil.rmtree(old)
        else:
            os.rename(partial, out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunError(f"'{out}' could not be written: {reason}; nothing was left there") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(path.name for path in out.iterdir())


def _flush(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
