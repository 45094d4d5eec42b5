"""What a computation costs, FLOPs and bytes: of tensors that exist, or only say what they would be."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# The registry lacks the product that sums onto what is there, which modalities/residual.py makes.
_COUNTED = {**flop_registry, torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm]}


class Meter(TorchDispatchMode):
    """A context that counts the FLOPs of operations inside, and the storages they make until those are freed.

    What lived before counts nothing; a kernel's scratch memory is not seen.

    Attributes:
        now: bytes of the storages that live.
        most: the largest value of ``now`` so far.
        heights: the largest value of ``now`` in each stretch up to a :meth:`mark`, and since the last.
        flops: of matrix products, convolutions and attention, as torch's ``FlopCounterMode`` counts them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.flops = 0
        self.heights = [0]
        self._known: set[int] = set()

    def mark(self) -> None:
        """Ends a stretch and begins the next."""
        self.heights.append(self.now)

    def ignore(self, *tensors: Tensor) -> None:
        """Counts nothing for these, wherever they turn up."""
        for tensor in tensors:
            self._known.add(id(tensor.untyped_storage()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        count = _COUNTED.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=found)
        for tensor in found if isinstance(found, list | tuple) else (found,):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage(), args)
        return found

    def _note(self, storage: torch.UntypedStorage, args: Any) -> None:
        name = id(storage)
        if name in self._known:
            return
        if any(t.untyped_storage() is storage for t in tree_leaves(args) if isinstance(t, Tensor)):
            return  # a view, or changed in place, of what lived before
        size = storage.nbytes()
        self._known.add(name)
        self.now += size
        self.most = max(self.most, self.now)
        self.heights[-1] = max(self.heights[-1], self.now)
        weakref.finalize(storage, self._freed, name, size)

    def _freed(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.now -= size
