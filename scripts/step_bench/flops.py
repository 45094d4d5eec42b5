"""FLOPs that a training step needs by formula: its matrix products and convolutions, nothing that is padding.

Backwards costs twice what forwards does, but for the layer that sees the input (once: the input has no gradient).
Norms, activations, softmax and the optimizer count nothing, so that no implementation reaches the rate of a product.
"""

from __future__ import annotations

from collections.abc import Sequence

Lengths = Sequence[int]


def seen(lengths: Lengths, window: int = 0, causal: bool = False) -> float:
    """Pairs of positions that attention compares."""
    total = 0.0
    for n in lengths:
        reach = min(window, n - 1) if window else n - 1
        ahead = reach * (reach + 1) / 2 + (n - 1 - reach) * reach  # neighbours on one side, over all positions
        total += n + (1 if causal else 2) * ahead
    return total


def block(
    lengths: Lengths, width: int, hidden: int, gated: bool = False, window: int = 0, causal: bool = False
) -> float:
    """Forward of one block of a trunk."""
    products = 4 * width * width + (3 if gated else 2) * width * hidden
    return 2.0 * products * sum(lengths) + 4.0 * width * seen(lengths, window, causal)


def head(rows: int, width: int, vocabulary: int, dense: bool = True) -> float:
    """Forward of the prediction of tokens at ``rows`` positions; in masked-LM a dense layer comes first."""
    return 2.0 * rows * width * (vocabulary + (width if dense else 0))


def convolutions(
    samples: Lengths, channels: int, kernels: Sequence[int], strides: Sequence[int]
) -> tuple[float, float]:
    """Forward of wav2vec's front end: the first layer, and the others."""
    first = rest = 0.0
    for length in samples:
        rows = length
        for number, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
            rows = (rows - kernel) // stride + 1
            cost = 2.0 * rows * kernel * channels * (channels if number else 1)
            first, rest = first + (0 if number else cost), rest + (cost if number else 0)
    return first, rest
