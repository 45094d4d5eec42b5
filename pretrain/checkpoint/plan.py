"""Which process writes what of a state that several hold, and where it is found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from pretrain.checkpoint.pieces import Piece
from pretrain.checkpoint.tensorfile import DTYPES

KINDS = ("model", "optimizer", "ema")


@dataclass(frozen=True)
class Box:
    """A :class:`~pretrain.checkpoint.pieces.Piece` without its values.

    Attributes:
        dtype: in the words of the safetensors format.
        whole: shape of the whole tensor.
        offset: where the box begins in it.
        shape: of the box.
    """

    dtype: str
    whole: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, piece: Piece) -> Box:
        """What ``piece`` covers."""
        dtype = DTYPES.get(piece.tensor.dtype, str(piece.tensor.dtype))
        return cls(dtype, tuple(piece.shape), tuple(piece.offset), tuple(piece.tensor.shape))

    @property
    def nothing(self) -> bool:
        """Whether its process holds nothing of a tensor that has something."""
        return prod(self.shape) == 0 and prod(self.whole) != 0


State = Mapping[str, Mapping[str, Piece]]
"""Kind (``model``, ``optimizer``, ``ema``) -> name -> what this process holds."""
Layout = dict[str, dict[str, Box]]
"""The same without values."""


def layout_of(state: State) -> Layout:
    """What a process says to the others about what it holds."""
    return {kind: {name: Box.of(piece) for name, piece in pieces.items()} for kind, pieces in state.items()}


@dataclass(frozen=True)
class Share:
    """What one process writes.

    Attributes:
        files: kind -> file; kinds of which it writes nothing are left out.
        names: kind -> names of the tensors in it.
        index: kind -> name -> entry of the index; empty for kinds that lie whole in one file.
    """

    files: dict[str, str]
    names: dict[str, list[str]]
    index: dict[str, dict[str, dict[str, object]]]

    def tensors(self, state: State) -> dict[str, dict[str, Tensor]]:
        """Kind -> name -> what is written of ``state``."""
        return {kind: {name: state[kind][name].tensor for name in names} for kind, names in self.names.items()}


def share_of(layouts: Sequence[Layout], rank: int) -> Share:
    """What ``rank`` writes: each box that no lower rank holds as well.

    Replicas are thus written by rank 0 alone, as one whole file, and nobody has to wait for anybody; pieces are written
    by those who hold them; replicated groups of pieces by the first group.

    Args:
        layouts: of all ranks, in their order.
        rank: whose share is asked for.
    """
    share = Share({}, {}, {})
    for kind in KINDS:
        owned = [_owned(layouts, kind, other) for other in range(len(layouts))]
        writers = [other for other, names in enumerate(owned) if names]
        if rank not in writers:
            if rank == 0 and not writers and kind != "ema":  # an optimizer without state is kept as such
                share.files[kind], share.names[kind] = f"{kind}.safetensors", []
            continue
        own = {name: layouts[rank][kind][name] for name in owned[rank]}
        divided = len(writers) > 1 or any(box.shape != box.whole for box in own.values())
        number = f"-{writers.index(rank) + 1:05d}-of-{len(writers):05d}" if divided else ""
        file = share.files[kind] = f"{kind}{number}.safetensors"
        share.names[kind] = list(own)
        if divided:
            share.index[kind] = {name: _entry(box, file) for name, box in own.items()}
    return share


def _owned(layouts: Sequence[Layout], kind: str, rank: int) -> list[str]:
    lower = [layout.get(kind, {}) for layout in layouts[:rank]]
    return [
        name
        for name, box in layouts[rank].get(kind, {}).items()
        if not box.nothing and not any(other.get(name) == box for other in lower)
    ]


def _entry(box: Box, file: str) -> dict[str, object]:
    part = {"file": file, "offset": list(box.offset), "shape": list(box.shape)}
    return {"dtype": box.dtype, "shape": list(box.whole), "pieces": [part]}


def merged(indexes: Sequence[Mapping[str, Mapping[str, dict[str, object]]]]) -> dict[str, dict[str, dict[str, object]]]:
    """The index of all shares: pieces of one tensor come together."""
    total: dict[str, dict[str, dict[str, object]]] = {}
    for index in indexes:
        for kind, entries in index.items():
            for name, entry in entries.items():
                known = total.setdefault(kind, {}).get(name)
                pieces = [*(known["pieces"] if known else []), *entry["pieces"]]  # type: ignore[misc]
                total[kind][name] = {**entry, "pieces": pieces}
    return total
