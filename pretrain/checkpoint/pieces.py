"""Parts of tensors: what one process holds of a state that several hold together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """A box of a tensor: one process's part of it, or all.

    Attributes:
        shape: of the whole tensor.
        offset: where the box begins in it, one number a dimension.
        tensor: the box's values, on any device; its shape is the box's. May be empty (0 in a dimension): a process
            that holds nothing of an unevenly divided tensor.
    """

    shape: tuple[int, ...]
    offset: tuple[int, ...]
    tensor: Tensor

    @classmethod
    def whole(cls, tensor: Tensor) -> Piece:
        """All of a tensor."""
        return cls(tuple(tensor.shape), (0,) * tensor.ndim, tensor)

    @property
    def complete(self) -> bool:
        """Whether it is all of its tensor."""
        return tuple(self.tensor.shape) == self.shape
