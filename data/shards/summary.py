"""What is known of a shard without opening its index."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """One shard in numbers.

    Attributes:
        samples: complete samples.
        bytes: size of the tar as it is stored.
        members: extension -> number of samples that have it.
        damage: one line for each damaged place; empty for a sound shard.
    """

    samples: int
    bytes: int
    members: dict[str, int]
    damage: tuple[str, ...] = ()
