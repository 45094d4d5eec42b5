"""Low-rank updates beside frozen weights (LoRA, Hu et al. 2022, section 4.1): W + alpha / rank * B A.

Not by ``peft``: that moves each adapted weight to another name (``base_layer``), so that what reads weights by name
(checkpoints, ``init_from``, rates by layer, exports) would have to know of it, and its ``x W + x A B`` rounds otherwise
than the merged weight. Here a layer keeps its names and computes with the merged weight itself, which costs a product
of B and A a forward pass; so merging is exact, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from data.errors import InputError, choices
from modalities.encoder import Encoder
from modalities.residual import ResidualLinear, onto

_A, _B, _SCALE = "lora_a", "lora_b", "lora_scale"
_LAYERS = (nn.Linear, ResidualLinear)  # themselves alone: what is derived from them may compute otherwise


class LoRALinear(nn.Linear):
    """A linear layer whose weight (O, I) is frozen, beside ``lora_a`` (rank, I) and ``lora_b`` (O, rank).

    Begins as the layer that it takes the place of: ``lora_b`` is 0.

    Args:
        layer: its weight and bias are taken over, not copied.
        rank: of the update.
        alpha: the update is scaled by ``alpha / rank``.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.lora_a = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.normal_(self.lora_a, std=layer.in_features**-0.5)
        self.lora_scale: Tensor
        self.register_buffer(_SCALE, layer.weight.new_full((), alpha / rank))  # with the weights, so that they say all

    def forward(self, x: Tensor, bypass: Tensor | None = None) -> Tensor:
        """(..., I) and, if it is to be added to, (..., O) -> (..., O)."""
        return onto(bypass, x, plus(self.weight, self.lora_a, self.lora_b, self.lora_scale), self.bias)


def plus(weight: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """(O, I): the weight with its update, in the precision of the weight also under autocast."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight + scale * (b @ a)


def add_lora(encoder: Encoder, rank: int, alpha: float, layers: Sequence[str], where: str = "encoder") -> None:
    """Freezes ``encoder`` and puts updates beside all of its linear layers whose last name is one of ``layers``.

    Raises:
        InputError: it has no linear layer of such a name.
    """
    found = {name: module for name, module in encoder.named_modules() if type(module) in _LAYERS}
    named = {name.rpartition(".")[2] for name in found}
    unknown = [name for name in layers if name not in named]
    if unknown or not layers:
        said = unknown[0] if unknown else ""
        raise InputError(f"lora.layers names '{said}', which is no linear layer of {where}; {choices(said, named)}")
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    for name, layer in found.items():
        parent, _, own = name.rpartition(".")
        if own in layers:
            setattr(encoder.get_submodule(parent), own, LoRALinear(layer, rank, alpha))


def is_update(name: str) -> bool:
    """Whether a tensor of this name is part of an update, and not of what it is added to."""
    return name.rpartition(".")[2] in (_A, _B, _SCALE)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with updates added to their weights, as plain layers have it; one without updates as it is."""
    found = {name: tensor for name, tensor in state.items() if not is_update(name)}
    for name in found:
        place, _, own = name.rpartition(".")
        a, b, scale = (f"{place}.{part}".lstrip(".") for part in (_A, _B, _SCALE))
        if own == "weight" and a in state:
            found[name] = plus(found[name], state[a], state[b], state[scale])
    return found
