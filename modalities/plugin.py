"""Any ``torch.nn.Module`` as an encoder: how it is called, what is made of its result. B sequences of N positions.

Each modality has its own adapter (``modalities.text.plugin.TextPlugin`` and so on) that knows how its inputs are laid
out; what they share is here. See docs/encoders.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from data.errors import InputError
from modalities.encoder import Encoder
from modalities.weights import load_weights

log = logging.getLogger("pretrain")

# What a module raises when it is called in a way it was not made for.
_REFUSALS = (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError, AssertionError)


class PluginEncoder(Encoder):
    """Base of the adapters around a module that knows nothing of this framework.

    A subclass calls :meth:`run` in its ``forward`` and :meth:`probe` at the end of its ``__init__``.

    Args:
        module: the module.
        width: D of its features; checked.
        pool: see :class:`modalities.encoder.Encoder`.
        method: name of the module's method that is called (timm: ``forward_features``); None: the module itself.
        output: which part of the result holds the features, a key, an attribute or a place in a tuple. None: the
            result if it is a tensor, ``last_hidden_state`` where there is one, else the first part.
        weights: a ``.safetensors`` file, or a folder with some, that the module begins with; None: as it was built.

    Raises:
        InputError: ``module`` is no module, has no such method, or the weights do not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        width: int,
        pool: str = "mean",
        method: str | None = None,
        output: str | int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(width, pool)
        if not isinstance(module, nn.Module):
            raise InputError(f"module is a {type(module).__name__}, not a torch.nn.Module; give it a _target_")
        if not any(True for _ in module.parameters()):
            raise InputError(f"module {type(module).__name__} has no parameters: nothing to train")
        if method is not None and not callable(getattr(module, method, None)):
            raise InputError(f"module {type(module).__name__} has no method '{method}'")
        if weights is not None:
            load_weights(module, weights)
        self.module = module.train()  # what from_pretrained() made comes in evaluation mode
        self.method, self.output = method, output
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            log.warning(
                "module %s has batch norm: its samples are coupled inside a micro-batch, so that losses depend on "
                "micro_batch_size and the number of devices",
                type(module).__name__,
            )

    def run(self, *arguments: Tensor, **named: Tensor) -> Tensor:
        """The features that the module gives, its dimensions as they come.

        Raises:
            InputError: the result holds no tensor of floats where ``output`` says.
        """
        call = self.module if self.method is None else getattr(self.module, self.method)
        found = picked(call(*arguments, **named), self.output)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise InputError(f"{self.title} gives {_kind(found)} where features are expected; set output")
        return found

    def sequences(self, features: Tensor, count: int) -> Tensor:
        """(B, N, D) of ``features``, which are that or (B, D), one position each.

        Raises:
            InputError: naming the shape that came and the one that is expected.
        """
        if features.ndim == 2:
            features = features.unsqueeze(1)
        if features.ndim != 3 or features.shape[0] != count or features.shape[2] != self.width:
            raise InputError(
                f"{self.title} gives features of shape {tuple(features.shape)} for {count} sequences; expected "
                f"({count}, positions, width={self.width}) or ({count}, {self.width})"
            )
        return features

    @property
    def title(self) -> str:
        """How messages name the module."""
        return type(self.module).__name__ + (f".{self.method}()" if self.method else "")

    @property
    def layer_drop(self) -> float:
        """Share of its layers that the module leaves out of a training step; 0 where it says nothing of it."""
        parts = [holder for part in self.module.modules() for holder in (part, getattr(part, "config", None))]
        found = [getattr(part, name, 0.0) for part in parts for name in ("layerdrop", "layer_drop")]
        return max((float(share) for share in found if isinstance(share, int | float)), default=0.0)

    @property
    def recomputing(self) -> Callable[[bool], object] | None:
        """How the module is told to compute its layers again in the backward pass; None where it knows no way."""
        if getattr(self.module, "supports_gradient_checkpointing", False):  # transformers, by its new name or the old
            module: Any = self.module
            kind = "activation" if hasattr(module, "activation_checkpointing_enable") else "gradient"

            def tell(on: bool) -> None:
                if on:
                    how = {f"{kind}_checkpointing_kwargs": {"use_reentrant": False}}
                    getattr(module, f"{kind}_checkpointing_enable")(**how)
                else:
                    getattr(module, f"{kind}_checkpointing_disable")()

            return tell
        found = getattr(self.module, "set_grad_checkpointing", None)  # timm
        return found if callable(found) else None

    def checkpoint_blocks(self, blocks: str | int) -> None:
        """``all`` layers of the module keep their input alone, or ``none``, in the module's own way.

        Raises:
            InputError: it has none, or cannot do so for some of its layers.
        """
        tell = self.recomputing
        if blocks not in ("all", "none") or (tell is None and blocks == "all"):
            can = "has no way to compute its layers again" if tell is None else "knows all and none"
            raise InputError(f"checkpoint_blocks={blocks}: module {type(self.module).__name__} {can}")
        if tell is None:
            return
        try:
            tell(blocks == "all")
        except _REFUSALS as error:  # timm's that cannot assert that they are not asked
            name = type(self.module).__name__
            raise InputError(
                f"checkpoint_blocks={blocks}: module {name} cannot compute its layers again: {error}"
            ) from None

    @contextmanager
    def probe(self) -> Iterator[bool]:
        """For a first call on made-up inputs, so that what does not fit is said before the first step.

        The module is in evaluation mode meanwhile and draws no random numbers that anything else would have drawn.
        Gives False where weights are not there yet (``meta`` device), and there is nothing to be called.

        Raises:
            InputError: in place of whatever the module raised.
        """
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                self.module.eval()
                yield not any(p.is_meta for p in self.module.parameters())
        except _REFUSALS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{self.title} cannot be called as the adapter does: {reason}") from error
        finally:
            self.module.train()


def picked(found: Any, output: str | int | None) -> Any:
    """The part of a module's result that ``output`` names, see :class:`PluginEncoder`."""
    if output is None:
        if isinstance(found, Tensor):
            return found
        if isinstance(getattr(found, "last_hidden_state", None), Tensor):
            return found.last_hidden_state
        if isinstance(found, Mapping):
            return next(iter(found.values()), None)
        return found[0] if isinstance(found, Sequence) and found else found
    if isinstance(output, int):
        parts = list(found.values()) if isinstance(found, Mapping) else found
        if not isinstance(parts, Sequence) or not -len(parts) <= output < len(parts):
            raise InputError(f"output={output} is no place in {_kind(found)}")
        return parts[output]
    if isinstance(found, Mapping) and output in found:
        return found[output]
    if isinstance(found, Tensor) or not hasattr(found, output):
        known = f" ({', '.join(map(str, found))})" if isinstance(found, Mapping) else ""
        raise InputError(f"output='{output}' is no part of {_kind(found)}{known}")
    return getattr(found, output)


def alike(lengths: Sequence[int]) -> dict[int, list[int]]:
    """Length -> the sequences of that length, in order: what a module can be given at once without padding."""
    found: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        found.setdefault(length, []).append(place)
    return found


def _kind(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of {str(found.dtype).removeprefix('torch.')}"
    held = f" of {len(found)}" if isinstance(found, Sequence | Mapping) else ""
    return f"a {type(found).__name__}{held}"
