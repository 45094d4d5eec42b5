"""The state as it is now, in host memory, so that training can go on while it is written."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Snapshot:
    """Copies tensors into host memory that is kept and used again.

    The first copy takes new memory from the system, which costs more than copying; later ones only copy. Memory that a
    device copies into is page-locked, so that all copies of a state are under way at once.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def take(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Kind -> name -> a copy, complete when this returns, and valid until the next call.

        Args:
            tensors: kind -> name -> tensor on any device.
        """
        copies = {
            kind: {name: self._copy((kind, name), tensor.detach()) for name, tensor in named.items()}
            for kind, named in tensors.items()
        }
        for device in {t.device for named in tensors.values() for t in named.values() if t.device.type == "cuda"}:
            torch.cuda.synchronize(device)
        return copies

    def _copy(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            locked = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=locked)
            self._buffers[key] = buffer
        return buffer.copy_(tensor, non_blocking=True)


def on_host(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The tensors themselves where they are on the host, else copies."""
    return {kind: {name: tensor.detach().cpu() for name, tensor in named.items()} for kind, named in tensors.items()}
