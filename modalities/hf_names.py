"""Weights under the names of ``transformers`` and under ours: the same numbers, told by one table for both ways.

A modality lists its tables (``modalities/image/hf_names.py`` and so on). They are linear, so what maps weights maps
gradients as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from data.errors import InputError


class Name(NamedTuple):
    """One tensor of ours and its names elsewhere.

    Attributes:
        ours: our name.
        theirs: their name; several where theirs are parts of ours, one after the other in the first dimension.
        our_shape, their_shape: what ours, and each of theirs, is viewed as, with one -1 at most; None: as it is.
    """

    ours: str
    theirs: tuple[str, ...]
    our_shape: tuple[int, ...] | None = None
    their_shape: tuple[int, ...] | None = None


_OLD = (
    (re.compile(r"(LayerNorm)\.gamma$"), r"\1.weight"),
    (re.compile(r"(LayerNorm)\.beta$"), r"\1.bias"),
    (re.compile(r"\.weight_g$"), ".parametrizations.weight.original0"),
    (re.compile(r"\.weight_v$"), ".parametrizations.weight.original1"),
)
Table = list[Name]
Parts = Mapping[str, str | tuple[str, ...]]


def present(name: str) -> str:
    """What a tensor is called today that older files call ``name``: ``LayerNorm.gamma``, ``conv.weight_g``."""
    for old, new in _OLD:
        name = old.sub(new, name)
    return name


def to_ours(table: Iterable[Name], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state from theirs; what the table does not name is left out.

    Raises:
        InputError: a tensor is missing.
    """
    found = {}
    for name in table:
        parts = [_one(theirs, key) for key in name.theirs]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        found[name.ours] = whole if name.our_shape is None else whole.reshape(name.our_shape)
    return found


def to_theirs(table: Iterable[Name], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their state from ours; the opposite of :func:`to_ours`.

    Raises:
        InputError: a tensor is missing.
    """
    found = {}
    for name in table:
        for key, part in zip(name.theirs, _one(ours, name.ours).chunk(len(name.theirs)), strict=True):
            found[key] = part if name.their_shape is None else part.reshape(name.their_shape)
    return found


def _one(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise InputError(f"the weights lack '{key}'; they are of another model, or of other settings of this one")
    return state[key]


def plain(ours: str, theirs: str, bias: bool = True) -> Table:
    """Weight and bias of a layer."""
    return [Name(f"{ours}.{part}", (f"{theirs}.{part}",)) for part in (("weight", "bias") if bias else ("weight",))]


def under(prefix: str, table: Iterable[Name], which: str = "theirs") -> Table:
    """The table with ``prefix`` in front of ``theirs`` or ``ours``."""
    if which == "ours":
        return [name._replace(ours=prefix + name.ours) for name in table]
    return [name._replace(theirs=tuple(prefix + key for key in name.theirs)) for name in table]


def blocks(depth: int, layer: Callable[[int], str], parts: Parts) -> Table:
    """The blocks of a trunk with biases everywhere.

    Args:
        depth: number of blocks.
        layer: number of a block -> its name in their model.
        parts: layer of our block -> its name, or names, in theirs.
    """
    table = []
    for number in range(depth):
        for ours, theirs in parts.items():
            keys = (theirs,) if isinstance(theirs, str) else theirs
            for part in ("weight", "bias"):
                names = tuple(f"{layer(number)}.{key}.{part}" for key in keys)
                table.append(Name(f"trunk.blocks.{number}.{ours}.{part}", names))
    return table
