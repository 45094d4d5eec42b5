"""Finding checkpoints and reading them whole, verified first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.errors import InputError
from pretrain.checkpoint.content import Content
from pretrain.checkpoint.folder import NAME, POINTER, published
from pretrain.checkpoint.manifest import Damaged
from pretrain.checkpoint.reader import Reader


def read(path: Path) -> Content:
    """The content of a checkpoint, verified first.

    Raises:
        Damaged: see :func:`pretrain.checkpoint.manifest.verify`.
    """
    return content_of(Reader(path))


def content_of(reader: Reader) -> Content:
    """All of a checkpoint in memory."""
    return Content(reader.tensors("model"), reader.tensors("optimizer"), reader.state, reader.tensors("ema"))


def newest_sound(root: Path) -> Iterator[tuple[Path, Reader | Damaged]]:
    """Checkpoints below ``root`` from the newest on, verified or found damaged, ending with the first sound one."""
    for path in published(root):
        try:
            yield path, Reader(path)
            return
        except Damaged as error:
            yield path, error


def newest(root: Path) -> Iterator[tuple[Path, Content | Damaged]]:
    """As :func:`newest_sound`, with the tensors read."""
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
    return content_of(find_reader(place))


def find_reader(place: str | Path) -> Reader:
    """As :func:`find`, with no tensor read yet."""
    path = Path(place).expanduser()
    if path.name == POINTER and path.is_file():
        path = _pointed_to(path)
    if NAME.fullmatch(path.name) and path.is_dir():
        try:
            return Reader(path)
        except Damaged as error:
            raise InputError(f"checkpoint '{path}' is damaged: {error}") from None
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for _, reader in newest_sound(root):
        if isinstance(reader, Reader):
            return reader
    if not Path(place).expanduser().exists():
        raise InputError(f"'{place}' does not exist (a run directory or a step-XXXXXXXX folder is expected)")
    raise InputError(f"'{place}' holds no sound checkpoint (a run directory or a step-XXXXXXXX folder is expected)")


def _pointed_to(pointer: Path) -> Path:
    with open(pointer, "rb") as file:
        name = file.read(100).decode(errors="replace").strip()
    if NAME.fullmatch(name) is None:
        raise InputError(f"'{pointer}' does not name a checkpoint beside it; give its folder, or the run directory")
    return pointer.with_name(name)
