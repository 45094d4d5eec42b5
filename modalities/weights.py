"""Weights from local files into a module: safetensors alone, as whatever is pickled may run code when it is read."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from data.errors import InputError

log = logging.getLogger("pretrain")


def load_weights(module: nn.Module, path: str) -> None:
    """Fills all of ``module`` from ``path``, a ``.safetensors`` file or a folder with one or several.

    Names in the files may have a prefix in common that the module's own lack (``bert.`` where a head was saved with the
    encoder). What the files hold beyond the module is left out and said.

    Raises:
        InputError: nothing there, unreadable, a tensor is missing or has another shape.
    """
    found = _read(Path(path).expanduser())
    wanted = module.state_dict()
    prefix = _prefix(list(wanted), list(found))
    missing = [name for name in wanted if prefix + name not in found]
    if missing:
        raise InputError(f"weights '{path}' lack {_some(missing)} of {type(module).__name__}; they hold {_some(found)}")
    ours = {name: found.pop(prefix + name) for name in wanted}
    other = [name for name, tensor in wanted.items() if tensor.shape != ours[name].shape]
    if other:
        theirs, own = tuple(ours[other[0]].shape), tuple(wanted[other[0]].shape)
        raise InputError(f"weights '{path}' have {other[0]} of shape {theirs}, {type(module).__name__} of shape {own}")
    module.load_state_dict(ours)
    left = f"; left out: {_some(found)}" if found else ""
    log.info("%s begins with the weights in %s%s", type(module).__name__, path, left)


def _read(path: Path) -> dict[str, Tensor]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if path.is_dir() and not files:
        others = sorted(file.name for file in path.iterdir())[:4]
        raise InputError(f"weights '{path}' hold no .safetensors file (found: {', '.join(others) or 'nothing'})")
    if path.suffix != ".safetensors" and not path.is_dir():
        what = "is there, but is no .safetensors file" if path.exists() else "is neither a file nor a folder"
        raise InputError(f"weights '{path}' {what}")
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"weights '{file}' cannot be read: {str(error).splitlines()[0]}") from None
    return found


def _prefix(wanted: list[str], found: list[str]) -> str:
    """What stands before the module's names in the files: of those that occur, the one that most names have."""
    held = set(found)
    possible = {name.removesuffix(wanted[0]) for name in found if name.endswith(wanted[0])} | {""}
    return max(sorted(possible, key=len), key=lambda prefix: sum(prefix + name in held for name in wanted))


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
