"""From a class of ``transformers`` to a graph of torch: inputs by name, a dict of outputs, sizes that stay free."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from data.errors import RunError
from pretrain.export.plan import Plan
from pretrain.export.signature import PICTURES, SOUND, TEXT, Signature


class _Named(nn.Module):
    """A model of ``transformers`` that returns the named outputs alone.

    Args:
        model: in evaluation mode.
        outputs: their names.
    """

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def read(self, **inputs: Tensor) -> dict[str, Tensor]:
        # A class with a head gives the features in front of it as the last of all hidden states.
        headed = {"last_hidden_state", "logits"} <= set(self.outputs)
        out = self.model(**inputs, return_dict=True, **({"output_hidden_states": True} if headed else {}))
        return {
            name: out.hidden_states[-1] if headed and name == "last_hidden_state" else out[name]
            for name in self.outputs
        }


class Texts(_Named):
    """Takes texts."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Name -> output."""
        return self.read(input_ids=input_ids, attention_mask=attention_mask)


class Pictures(_Named):
    """Takes pictures."""

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Name -> output."""
        return self.read(pixel_values=pixel_values)


class Sounds(_Named):
    """Takes clips."""

    def forward(self, input_values: Tensor) -> dict[str, Tensor]:
        """Name -> output."""
        return self.read(input_values=input_values)


class Pairs(_Named):
    """Takes texts and pictures."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> dict[str, Tensor]:
        """Name -> output."""
        return self.read(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values)


MODULES: dict[tuple[str, ...], type[_Named]] = {
    TEXT: Texts,
    PICTURES: Pictures,
    SOUND: Sounds,
    TEXT + PICTURES: Pairs,
}


def module_of(model: Any, signature: Signature) -> nn.Module:
    """``model`` behind the inputs and outputs of ``signature``."""
    model.config.use_cache = False  # nothing is continued token by token: a graph has no state
    return MODULES[tuple(signature.inputs)](model.requires_grad_(False), signature.outputs).eval()


def dimensions(signature: Signature) -> dict[str, dict[int, Any]]:
    """Input -> its free dimensions, in the words of ``torch.export``."""
    free = {k: torch.export.Dim(k, min=n, max=signature.most.get(k)) for k, n in signature.least.items()}
    return {
        name: {place: free[dim] for place, dim in enumerate(dims) if isinstance(dim, str)}
        for name, dims in signature.inputs.items()
    }


@torch.no_grad()
def trace(module: nn.Module, signature: Signature, plan: Plan) -> Any:
    """The program of ``module``, traced at one set of sizes and valid for all that ``signature`` allows.

    Raises:
        RunError: torch cannot trace it.
    """
    # All sizes differ from one another: what is equal here by chance would be taken for always equal.
    primes = {"batch": 3, "texts": 3, "pictures": 2, "tokens": 11}
    sizes = {name: primes.get(name, 12 * least) for name, least in signature.least.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(
                module, (), signature.batch(sizes), dynamic_shapes=dimensions(signature), strict=False
            )
    except (RuntimeError, ValueError, AssertionError) as error:
        raise RunError(
            f"torch {torch.__version__} cannot trace {plan.architecture}: {str(error).splitlines()[0]}; use --format hf"
        ) from error
