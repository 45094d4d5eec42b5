"""What of a model's memory one device has."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pretrain.plan.rehearsal import Rehearsal

_WHOLE, _LARGEST_AT_ONCE = 1, 2


@dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
        weights, gradients, optimizer, averages: what it keeps of them.
        gathered: parts of the weights that it has from others while it computes, and their gradients.
        activations: what a step holds beside gradients at its height.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    gathered: int
    activations: int

    @property
    def most(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


def memory_of(rehearsal: Rehearsal, strategy: str, devices: int, shard_size: int | None) -> Memory:
    """Bytes of one device, of what the whole model takes.

    Args:
        rehearsal: of a step.
        strategy: see :class:`Plan`.
        devices: how many.
        shard_size: of hsdp.
    """
    parts = {"fsdp": devices, "hsdp": shard_size or devices}.get(strategy, _WHOLE)
    activations = rehearsal.most - rehearsal.gradients
    if parts == _WHOLE:
        if devices > 1:  # the gradients are laid end to end to be summed, when activations are gone
            activations = max(activations, rehearsal.gradients)
        return Memory(
            rehearsal.weights, rehearsal.gradients, rehearsal.optimizer, rehearsal.averages, 0, max(0, activations)
        )
    # What is gathered by itself comes and goes, the next one while one is computed; all else stays until the end of
    # the backward pass. Of both, the gradients are whole until they are summed.
    layers = sorted(rehearsal.apart, reverse=True)
    gathered = 2 * (rehearsal.weights - sum(layers) + sum(layers[:_LARGEST_AT_ONCE]))
    kept = (rehearsal.weights, rehearsal.gradients, rehearsal.optimizer, rehearsal.averages)
    weights, gradients, optimizer, averages = (-(-size // parts) for size in kept)
    return Memory(weights, gradients, optimizer, averages, gathered, max(0, activations))
