"""The encoder protocol: prepared inputs -> features. An encoder knows its modality and no objective."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from data.errors import InputError
from modalities.layout import Layout

POOLS = ("mean", "max", "first", "last")


class Encoded(NamedTuple):
    """Features of a batch: ``tokens`` (T, D) float, laid out by ``layout``."""

    tokens: Tensor
    layout: Layout


class Encoder(nn.Module):
    """Base of all encoders.

    A subclass sets ``modality`` and implements :meth:`forward`. An encoder that takes part in contrastive tasks is
    given a projection into a joint space of ``dim`` features; tasks that ask for the same ``dim`` share it, which is
    what lets a pair that no task trains (pictures and sounds, say) be compared.

    Attributes:
        modality: ``text``, ``image``, ``audio`` or a name of your own; must be what the task's ``prepare`` produces.
        width: D, the number of features a position.
        pool: how a sequence becomes one vector, one of ``mean``, ``max`` (of each feature),
            ``first``, ``last``.
    """

    modality: ClassVar[str]

    def __init__(self, width: int, pool: str = "mean") -> None:
        super().__init__()
        if pool not in POOLS:
            raise InputError(f"pool '{pool}' is unknown; choices: {', '.join(POOLS)}")
        self.width = width
        self.pool = pool
        self.projections = nn.ModuleDict()

    def forward(self, inputs: dict[str, Any]) -> Encoded:
        """Features (T, D) of prepared ``inputs``."""
        raise TypeError(f"{type(self).__name__} lacks forward()")

    def add_projection(self, dim: int) -> None:
        """Gives the encoder a projection to ``dim`` features, unless it has it."""
        if str(dim) not in self.projections:
            layer = nn.Linear(self.width, dim, bias=False)
            nn.init.normal_(layer.weight, std=self.width**-0.5)
            self.projections[str(dim)] = layer

    def pooled(self, inputs: dict[str, Any], pool: str | None = None) -> Tensor:
        """(B, D): one vector a sequence; ``pool``: another way than the encoder's own."""
        tokens, layout = self(inputs)
        return getattr(layout, pool or self.pool)(tokens)

    def embed(self, inputs: dict[str, Any], dim: int) -> Tensor:
        """(B, dim): the sequence's place in the joint space, not normalised."""
        return self.projections[str(dim)](self.pooled(inputs))
