"""What is to be written: config.json, weights and processors of one class of ``transformers``, and its probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

UNBOUNDED = 8192
"""Tokens of the longest text, said of encoders whose positions have no end (as ModernBERT says)."""


class Pair(NamedTuple):
    """One output of both models on the same inputs."""

    name: str
    ours: Tensor
    theirs: Tensor


@dataclass
class Plan:
    """One export.

    Attributes:
        architecture: class of ``transformers``.
        config: content of config.json.
        weights: content of model.safetensors, float32.
        probe: their model, loaded from the folder -> outputs of both on a probe batch.
        files: further files, name -> content: JSON, or text as it is.
        text: name of the encoder whose tokenizer goes along; None: none.
        causal: whether the tokenizer leaves the end open, to be continued.
        processor: class of ``transformers`` that prepares inputs.
        notes: what whoever uses it should know, a line each.
    """

    architecture: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    probe: Callable[[Any], list[Pair]]
    files: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    causal: bool = False
    processor: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        words = self.config.get("text_config", self.config)
        return int(words.get("max_position_embeddings") or words.get("n_positions") or UNBOUNDED)

    @property
    def parameters(self) -> int:
        """Numbers written."""
        return sum(tensor.numel() for tensor in self.weights.values())
