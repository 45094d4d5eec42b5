"""Weights from local files into a module: safetensors alone, as whatever is pickled may run code when it is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from data.errors import InputError
from modalities.hf_names import present

log = logging.getLogger("pretrain")


def load_weights(module: nn.Module, path: str) -> None:
    """Fills all of ``module`` from ``path``, a ``.safetensors`` file or a folder with one or several.

    Names in the files may have a prefix in common that the module's own lack (``bert.`` where a head was saved with the
    encoder), older names (``LayerNorm.gamma``), and one of several tensors that are tied in the module. What the files
    hold beyond the module is left out and said.

    Raises:
        InputError: nothing there, unreadable, a tensor is missing or has another shape.
    """
    found = _read(Path(path).expanduser())
    wanted = module.state_dict(keep_vars=True)
    held = {present(name): name for name in found}
    prefix = _prefix([present(name) for name in wanted], list(held))
    places = _places(wanted, prefix, held)
    missing = [name for name in wanted if name not in places]
    if missing:
        raise InputError(f"weights '{path}' lack {_some(missing)} of {type(module).__name__}; they hold {_some(found)}")
    ours = {name: found[place] for name, place in places.items()}
    other = [name for name, tensor in wanted.items() if tensor.shape != ours[name].shape]
    if other:
        theirs, own = tuple(ours[other[0]].shape), tuple(wanted[other[0]].shape)
        raise InputError(f"weights '{path}' have {other[0]} of shape {theirs}, {type(module).__name__} of shape {own}")
    module.load_state_dict(ours)
    used = set(places.values())
    unused = [name for name in found if name not in used]
    left = f"; left out: {_some(unused)}" if unused else ""
    log.info("%s begins with the weights in %s%s", type(module).__name__, path, left)


def _places(wanted: Mapping[str, Tensor], prefix: str, held: Mapping[str, str]) -> dict[str, str]:
    """Name in the module -> name in the files: its own, or, where files hold tied tensors once, that of its twin."""
    own = {name: held[prefix + present(name)] for name in wanted if prefix + present(name) in held}
    twins = {id(wanted[name]): place for name, place in own.items()}
    tied = {name: twins[id(tensor)] for name, tensor in wanted.items() if id(tensor) in twins}
    return tied | own


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
    # The module's first name may be one that files leave out, as it is tied to another.
    known = next((name for name in wanted if any(other.endswith(name) for other in found)), "\0")
    possible = {name.removesuffix(known) for name in found if name.endswith(known)} | {""}
    return max(sorted(possible, key=len), key=lambda prefix: sum(prefix + name in held for name in wanted))


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
