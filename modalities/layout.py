"""How sequences of different lengths lie end to end in one tensor, without padding.

Shapes everywhere below ``modalities``: B sequences, T positions of all of them together, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

_INDEXES = ("offsets", "sequence", "position")
_HOST = torch.device("cpu")


class Layout:
    """Lengths of B sequences laid end to end in T = sum(lengths) rows.

    The lengths stay on the host, so that nothing inside a step waits for the device to learn a shape. The index tensors
    derived from them are made on first use and follow :meth:`to`; :meth:`pin_memory` makes them beforehand.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        if len(lengths) == 0 or min(lengths) <= 0:
            raise ValueError(f"a layout needs at least one sequence and no empty one, got lengths {list(lengths)[:8]}")
        self.lengths = [int(n) for n in lengths]
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[object, ...]:
        # Every micro-batch comes from another process: no name, nothing that the lengths say as well.
        made = {name: value for name, value in vars(self).items() if name in _INDEXES}
        here = (self.lengths,) if self.device == _HOST else (self.lengths, self.device)
        return (Layout, here, made) if made else (Layout, here)

    @property
    def total(self) -> int:
        """T, the number of rows."""
        return sum(self.lengths)

    @cached_property
    def uniform(self) -> int | None:
        """The common length, or None where lengths differ."""
        return self.lengths[0] if len(set(self.lengths)) == 1 else None

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.concatenate(([0], np.cumsum(self.lengths)))

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":  # else the host would wait for what the device does before
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int64: sequence i lies in rows ``offsets[i]:offsets[i + 1]``."""
        return self._tensor(self._bounds)

    @cached_property
    def sequence(self) -> Tensor:
        """(T,) int64: which sequence a row belongs to."""
        return self._tensor(np.repeat(np.arange(len(self)), self.lengths))

    @cached_property
    def position(self) -> Tensor:
        """(T,) int64: the place of a row inside its sequence."""
        return self._tensor(np.arange(self.total) - np.repeat(self._bounds[:-1], self.lengths))

    def pin_memory(self) -> Layout:
        """The same layout with its tensors in pinned memory, from where :meth:`to` copies without waiting."""
        return self._with({name: getattr(self, name).pin_memory() for name in _INDEXES}, self.device)

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on ``device``."""
        device = torch.device(device)
        if device == self.device:
            return self
        away = self.device.type == "cpu"  # only copies from the host are in order with what then uses them
        made = {name: value.to(device, non_blocking=away) for name, value in vars(self).items() if name in _INDEXES}
        return self._with(made, device)

    def _with(self, tensors: dict[str, Tensor], device: torch.device) -> Layout:
        other = Layout(self.lengths, device)
        vars(other).update(tensors)  # where cached_property looks
        return other

    def mean(self, x: Tensor) -> Tensor:
        """(T, D) -> (B, D): the mean of each sequence's rows."""
        if self.uniform is not None:
            return x.view(len(self), self.uniform, -1).mean(1)
        rows = _wide(x)
        sums = rows.new_zeros(len(self), x.shape[-1]).index_add(0, self.sequence, rows)
        return (sums / (self.offsets[1:] - self.offsets[:-1]).to(rows.dtype).unsqueeze(1)).to(x.dtype)

    def max(self, x: Tensor) -> Tensor:
        """(T, D) -> (B, D): the largest value of each feature in each sequence's rows."""
        if self.uniform is not None:
            return x.view(len(self), self.uniform, -1).amax(1)
        # Rows beyond the end of a sequence are its last one again, which changes no maximum.
        steps = torch.arange(max(self.lengths), device=x.device)
        last = (self.offsets[1:] - self.offsets[:-1] - 1).unsqueeze(1)
        # Backwards, what these copies got is added up again.
        return _wide(x)[self.offsets[:-1].unsqueeze(1) + torch.minimum(steps, last)].amax(1).to(x.dtype)

    def first(self, x: Tensor) -> Tensor:
        """(T, D) -> (B, D): the first row of each sequence."""
        return x[self.offsets[:-1]]

    def last(self, x: Tensor) -> Tensor:
        """(T, D) -> (B, D): the last row of each sequence."""
        return x[self.offsets[1:] - 1]


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least: in half precision a sum of many rows stands still, or has no number any more."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
