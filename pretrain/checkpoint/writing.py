"""Publishing: everything written beside, hashed, flushed to disk, and renamed at once."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.checkpoint.content import Content
from pretrain.checkpoint.disk import flush, make, remove, write
from pretrain.checkpoint.folder import INDEX, MANIFEST, STATE, directory_name, point, set_aside
from pretrain.checkpoint.manifest import Damaged, manifest, verify
from pretrain.checkpoint.pieces import Piece
from pretrain.checkpoint.plan import Share, layout_of, merged, share_of
from pretrain.checkpoint.tensorfile import encode

log = logging.getLogger("pretrain")


@dataclass(frozen=True)
class Written:
    """What one process has brought to disk: file -> size and SHA-256, and what the index says of its pieces."""

    files: dict[str, tuple[int, str]]
    index: dict[str, dict[str, dict[str, object]]]


def part_folder(root: Path, step: int, attempt: str = "") -> Path:
    """Where the checkpoint of ``step`` grows; never read, and removed at the run's next start."""
    return root / f".{directory_name(step)}{attempt and '.' + attempt}.part"


def write_share(folder: Path, share: Share, tensors: Mapping[str, Mapping[str, Tensor]]) -> Written:
    """Writes what is one process's to write. Several do so at the same time, each its own files.

    Args:
        folder: see :func:`part_folder`; made with what is above it if missing.
        share: what is written.
        tensors: kind -> name -> values on the host.

    Raises:
        OSError: it could not be brought to disk.
    """
    make(folder.parent)
    folder.mkdir(exist_ok=True)
    files = {file: write(folder / file, encode(tensors[kind])) for kind, file in share.files.items()}
    flush(folder)
    return Written(files, share.index)


def commit(root: Path, folder: Path, step: int, state: bytes, written: Iterable[Written]) -> Path:
    """Makes what all processes have written a checkpoint, or nothing of it.

    A checkpoint of this step that is there already is kept if it is sound: the same step of the same run has the same
    content.

    Args:
        root: the run's ``checkpoints/``.
        folder: below it, where everything lies.
        step: of the checkpoint.
        state: JSON.
        written: of each process.

    Raises:
        OSError: it could not be brought to disk.
    """
    final, every = root / directory_name(step), list(written)
    files = {file: entry for one in every for file, entry in one.files.items()}
    index = merged([one.index for one in every])
    if index:
        files[INDEX] = write(folder / INDEX, [json.dumps(index, sort_keys=True).encode()])
    files[STATE] = write(folder / STATE, [state])
    write(folder / MANIFEST, [manifest(step, files)])
    flush(folder)
    if _sound(final):
        remove(folder)
    else:
        os.rename(folder, final)
        flush(root)
    try:
        point(root, final.name)
    except OSError as error:  # the checkpoint stands; readers do without the hint
        log.warning("%s is saved, but the hint 'last' beside it could not be: %s", final.name, error)
    return final


def _sound(final: Path) -> bool:
    """Whether a sound checkpoint is there; a damaged one is set aside."""
    if not final.exists():
        return False
    try:
        verify(final)
    except Damaged:
        set_aside(final)
        return False
    return True


def as_json(state: Mapping[str, Any]) -> bytes:
    """The text of ``state.json``.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(state, indent=1, sort_keys=True, allow_nan=False).encode()


def publish(root: Path, content: Content) -> Path:
    """Writes ``content`` below ``root`` (the run's ``checkpoints/``) and returns its folder, all of it by this process.

    Readers see all of it or nothing.

    Raises:
        OSError: it could not be brought to disk.
    """
    kinds = {"model": content.model, "optimizer": content.optimizer, "ema": content.ema}
    state = {kind: {n: Piece.whole(t.detach().cpu()) for n, t in tensors.items()} for kind, tensors in kinds.items()}
    share = share_of([layout_of(state)], 0)
    folder = part_folder(root, content.step)
    remove(folder)
    written = write_share(folder, share, share.tensors(state))
    return commit(root, folder, content.step, as_json(content.state), [written])
