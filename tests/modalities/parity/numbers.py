"""How near numbers of two implementations must be."""

import torch


def same(mine, theirs, tolerance=None):
    """Tensors by name: in float64 each to its own size, in float32 (the bar: 1e-5) to the size of the largest."""
    assert mine.keys() == theirs.keys()
    largest = max(value.abs().max() for value in theirs.values())
    for name, value in theirs.items():
        assert mine[name].shape == value.shape, name
        double = value.dtype == torch.float64
        size = torch.maximum(value.abs().max(), 1e-4 * largest) if double else largest
        error = (mine[name] - value).abs().max() / size
        assert error <= (tolerance or (1e-9 if double else 1e-5)), f"{name}: {error:.1e}"


def randomise(model):
    """Every parameter at random, norms and biases too, which begin where mistakes do not show."""
    for number, parameter in enumerate(model.parameters()):
        torch.nn.init.normal_(parameter, 0.05, 0.2, generator=torch.manual_seed(number))


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}
