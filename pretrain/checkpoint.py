"""Checkpoints: published whole or not there. Plain tensors and JSON, a manifest of sizes and SHA-256, one rename.

step-00000100/  model.safetensors  optimizer.safetensors  [ema.safetensors]  state.json  manifest.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.errors import InputError

MANIFEST = "manifest.json"
EMA = "ema.safetensors"
POINTER = "last"
_NAME = re.compile(r"step-(\d{8,})")


class Damaged(Exception):
    """A checkpoint is not what was published; carries what is wrong with it."""


@dataclass
class Content:
    """What a checkpoint says, file format aside.

    Attributes:
        model: parameter or buffer name -> tensor.
        optimizer: ``PARAMETER/STATE`` -> tensor.
        state: JSON values: ``step``, ``positions`` (task -> samples consumed), digests of data and tokenizers, ...
        ema: parameter name -> its moving average, float32; empty where none is kept.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    ema: dict[str, Tensor] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Optimizer updates done."""
        return int(self.state["step"])


def directory_name(step: int) -> str:
    """``step-00000100``."""
    return f"step-{step:08d}"


def publish(root: Path, content: Content) -> Path:
    """Writes ``content`` below ``root`` (the run's ``checkpoints/``) and returns its folder.

    Everything is written beside, flushed to disk, hashed and renamed at once; readers see all of it or nothing. A
    checkpoint of this step that is there already is kept: the same step of the same run has the same content.
    """
    final = root / directory_name(content.step)
    if final.exists():
        _point(root, final.name)
        return final
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f".{final.name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_file(_plain(content.model), partial / "model.safetensors")
    save_file(_plain(content.optimizer), partial / "optimizer.safetensors")
    if content.ema:
        save_file(_plain(content.ema), partial / EMA)
    (partial / "state.json").write_text(json.dumps(content.state, indent=1, sort_keys=True))
    files = sorted(partial.iterdir())
    manifest = {
        "step": content.step,
        "files": {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files},
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    for file in [*files, partial / MANIFEST, partial]:
        _flush(file)
    os.rename(partial, final)
    _flush(root)
    _point(root, final.name)
    return final


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    plain, seen = {}, set()
    for name, tensor in tensors.items():
        own = tensor.detach().to("cpu").contiguous()
        if own.untyped_storage().data_ptr() in seen:  # tied weights: safetensors takes no two names for one memory
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        plain[name] = own
    return plain


def _point(root: Path, name: str) -> None:
    partial = root / f".{POINTER}.part"
    partial.write_text(name + "\n")
    _flush(partial)
    os.replace(partial, root / POINTER)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"'{path}' is not named like a checkpoint")
    return int(match.group(1))


def published(root: Path) -> list[Path]:
    """Checkpoint folders below ``root``, newest first; whether they are sound is for :func:`verify` to say."""
    if not root.is_dir():
        return []
    found = [(int(m.group(1)), p) for p in root.iterdir() if (m := _NAME.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(found, reverse=True)]


def verify(path: Path) -> None:
    """Compares the files of a checkpoint with its manifest.

    Raises:
        Damaged: a file is missing, surplus, unreadable, of another size or content, or there is no readable manifest.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        step, files = int(manifest["step"]), manifest["files"]
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise Damaged(f"{MANIFEST} is missing or unreadable ({type(error).__name__})") from None
    if _NAME.fullmatch(path.name) and path.name != directory_name(step):
        raise Damaged(f"{MANIFEST} is that of step {step}")
    try:
        _compare(path, expected)
    except OSError as error:
        raise Damaged(f"unreadable: {error}") from None


def _compare(path: Path, expected: dict[str, tuple[int, str]]) -> None:
    present = {p.name for p in path.iterdir()} - {MANIFEST}
    for name in sorted(present ^ expected.keys()):
        raise Damaged(f"{name} is {'missing' if name in expected else 'not in the manifest'}")
    for name, (size, digest) in sorted(expected.items()):
        actual = (path / name).stat().st_size
        if actual != size:
            raise Damaged(f"{name} has {actual} bytes instead of {size}")
        if _sha256(path / name) != digest:
            raise Damaged(f"{name} has another content than was written")


def read(path: Path) -> Content:
    """The content of a checkpoint, verified first.

    Raises:
        Damaged: see :func:`verify`.
    """
    verify(path)
    try:
        state = json.loads((path / "state.json").read_text())
        ema = load_file(path / EMA) if (path / EMA).exists() else {}
        return Content(load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors"), state, ema)
    except (OSError, ValueError, SafetensorError) as error:
        raise Damaged(f"unreadable although its digests are right: {error}") from None


def newest(root: Path) -> Iterator[tuple[Path, Content | Damaged]]:
    """Checkpoints below ``root`` from the newest on, each read or found damaged, ending with the first sound one."""
    for path in published(root):
        try:
            yield path, read(path)
            return
        except Damaged as error:
            yield path, error


def find(place: str | Path) -> Content:
    """The newest sound checkpoint of a run directory, or the one that ``place`` is.

    Raises:
        InputError: there is none, or the one named is damaged.
    """
    path = Path(place).expanduser()
    if path.name == POINTER and path.is_file():
        path = path.with_name(path.read_text().strip())
    if _NAME.fullmatch(path.name) and path.is_dir():
        try:
            return read(path)
        except Damaged as error:
            raise InputError(f"checkpoint '{path}' is damaged: {error}") from None
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for _, content in newest(root):
        if isinstance(content, Content):
            return content
    raise InputError(f"'{place}' holds no sound checkpoint (a run directory or a step-XXXXXXXX folder is expected)")


def digest(content: Content) -> str:
    """SHA-256 of the logical content: weights, their average, optimizer state, positions, schedule; not of its form."""
    total = hashlib.sha256()
    for kind, tensors in (("model", content.model), ("optimizer", content.optimizer), ("ema", content.ema)):
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            total.update(f"{kind}/{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    logical = {key: content.state[key] for key in ("step", "positions", "schedule")}
    total.update(json.dumps(logical, sort_keys=True).encode())
    return total.hexdigest()


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint to ``damaged-...``: it is not read again, and not lost as evidence."""
    number, target = 1, path.with_name(f"damaged-{path.name}")
    while target.exists():
        number += 1
        target = path.with_name(f"damaged-{path.name}-{number}")
    os.rename(path, target)
    return target


def damaged(root: Path) -> list[Path]:
    """What :func:`set_aside` has put aside below ``root``."""
    return sorted(root.glob("damaged-*"))


def prune(root: Path, keep: int, known_sound: Collection[str] = ()) -> list[Path]:
    """Removes all but the newest ``keep`` sound checkpoints; returns what was removed.

    Those named in ``known_sound``, which this process has written itself, are not read again.
    """
    kept, keep, removed = 0, max(1, keep), []
    for path in published(root):
        if kept < keep:
            try:
                if path.name not in known_sound:
                    verify(path)
                kept += 1
            except Damaged:
                pass  # neither counted nor removed: it is evidence
            continue
        # First out of the way by one rename, so that a kill never leaves half a checkpoint under its name.
        grave = root / f".{path.name}.old"
        shutil.rmtree(grave, ignore_errors=True)
        os.rename(path, grave)
        shutil.rmtree(grave)
        removed.append(path)
    return removed


def sweep(root: Path) -> None:
    """Removes what a killed process left half-written or half-removed, and points to the newest checkpoint."""
    if root.is_dir():
        for path in root.iterdir():
            if path.name.startswith(".") and path.name.endswith((".part", ".old")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        found = published(root)
        if found:
            _point(root, found[0].name)
