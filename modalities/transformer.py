"""The one transformer trunk; text, image and audio encoders are settings of it. T rows, D features, H heads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data.errors import InputError, choices
from modalities.block import Angles, Block
from modalities.grouped import by_length
from modalities.initialisation import initialise, spreads
from modalities.layout import Layout
from modalities.norms import norm_of
from modalities.reach import Reach
from modalities.rotary import Rotary

__all__ = ["Transformer", "initialise", "trunk_of"]

PLACES = ("pre", "post")


class Transformer(nn.Module):
    """A stack of blocks over sequences laid end to end.

    Args:
        width: D.
        depth: number of blocks.
        heads: H; divides ``width`` unless ``head_width`` is given.
        mlp_ratio: hidden size of the perceptron as a multiple of ``width``.
        dropout: on both residual branches.
        norm: ``pre`` (GPT-2, ViT; a last norm follows the stack) or ``post`` (BERT).
        causal: a position attends to itself and earlier ones only.
        rotary: rotary positions in every block; otherwise the caller adds positions to the input, learned or
            convolutional ones.
        activation: ``gelu``, ``quick_gelu``, ``tanh_gelu``, ``relu``, ``silu``, or gated ``geglu``, ``swiglu``.
        bias: whether linear layers have one; ``attention_bias`` and ``mlp_bias`` say it for one kind alone.
        norm_kind, norm_eps, norm_bias: ``layer`` or ``rms``, the term in its root, whether it has a bias.
        input_norm, first_norm, final_norm: whether there is a norm before the blocks, inside the first block before
            its attention (ModernBERT has none), and after the blocks (None: where ``norm`` is ``pre``).
        head_width: features of a query or key, ``width / heads`` if None.
        window, global_every: where ``window`` is not 0, all blocks but every ``global_every``-th, from the first on,
            see positions at that distance at most (ModernBERT: 64 and 3).
        rotary_base, local_rotary_base: of blocks that see everything, and of those with a window (None: the same).
        attention_dropout, mlp_dropout, input_dropout: on attention weights (None: as ``dropout``), inside the
            perceptron, on the input after its norm.
        layer_drop: share of blocks that a training step leaves out (Fan et al. 2020), drawn like dropout.
        initialisation: recipe of the initial weights, see :mod:`modalities.initialisation`.
        checkpoint_blocks: ``none``, ``all`` or k: every k-th block keeps its input alone and is computed again in the
            backward pass.

    Raises:
        InputError: an option has an unknown value, or ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: str = "pre",
        causal: bool = False,
        rotary: bool = True,
        activation: str = "gelu",
        bias: bool = True,
        *,
        attention_bias: bool | None = None,
        mlp_bias: bool | None = None,
        norm_kind: str = "layer",
        norm_eps: float = 1e-5,
        norm_bias: bool = True,
        input_norm: bool = False,
        first_norm: bool = True,
        final_norm: bool | None = None,
        head_width: int | None = None,
        window: int = 0,
        global_every: int = 3,
        rotary_base: float = 10000.0,
        local_rotary_base: float | None = None,
        attention_dropout: float | None = None,
        mlp_dropout: float = 0.0,
        input_dropout: float = 0.0,
        layer_drop: float = 0.0,
        initialisation: str = "gpt2",
        checkpoint_blocks: str | int = "none",
    ) -> None:
        super().__init__()
        if norm not in PLACES:
            raise InputError(f"norm '{norm}' is unknown; choices: {', '.join(PLACES)}")
        if min(width, depth, heads, global_every) < 1 or window < 0 or (head_width or 1) < 1:
            raise InputError(
                f"width={width}, depth={depth}, heads={heads}, head_width={head_width}, global_every={global_every} "
                f"must be 1 or more, window={window} 0 or more"
            )
        if head_width is None:
            if width % heads:
                raise InputError(f"heads={heads} does not divide width={width}")
            head_width = width // heads
        if not first_norm and norm == "post":
            raise InputError(
                "first_norm=false leaves out the norm before the first attention; norm=post has none there"
            )
        if attention_dropout is None:
            attention_dropout = dropout
        shares = {
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "mlp_dropout": mlp_dropout,
            "input_dropout": input_dropout,
            "layer_drop": layer_drop,
        }
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise InputError(f"{name}={share} is not a share: 0 <= {name} < 1")
        if rotary and head_width % 2:
            raise InputError(f"rotary positions need an even width a head, got {head_width} ({width}/{heads})")
        self.causal, self.window, self.global_every = causal, window, global_every
        self.input_dropout, self.layer_drop = input_dropout, layer_drop
        self.checkpoint_every = _every(checkpoint_blocks)
        self.rotary = Rotary(head_width, rotary_base) if rotary else None
        self.local_rotary = Rotary(head_width, local_rotary_base or rotary_base) if rotary and window else None
        self.input_norm = norm_of(norm_kind, width, norm_eps, norm_bias) if input_norm else None
        blocks = [
            Block(
                width,
                heads,
                head_width,
                round(width * mlp_ratio),
                norm,
                norm_kind,
                norm_eps,
                norm_bias,
                activation,
                bias if attention_bias is None else attention_bias,
                bias if mlp_bias is None else mlp_bias,
                dropout,
                attention_dropout,
                mlp_dropout,
                first_norm or number > 0,
            )
            for number in range(depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        last = norm == "pre" if final_norm is None else final_norm
        self.norm = norm_of(norm_kind, width, norm_eps, norm_bias) if last else nn.Identity()
        self._begin(initialisation, width)

    def _begin(self, recipe: str, width: int) -> None:
        chosen = spreads(recipe, width, len(self.blocks))
        # In two rounds, as runs of earlier versions drew them: a seed gives the weights it always gave.
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        for block in blocks:
            for layer, std in (
                (block.attention_in, chosen.attention_in),
                (block.attention_out, chosen.attention_in),
                (block.mlp_in, chosen.mlp_in),
                (block.mlp_out, chosen.mlp_in),
            ):
                initialise(layer, std, chosen.cut)
        for block in blocks:
            initialise(block.attention_out, chosen.attention_out, chosen.cut)
            initialise(block.mlp_out, chosen.mlp_out, chosen.cut)

    def is_local(self, number: int) -> bool:
        """Whether block ``number`` sees only its window."""
        return bool(self.window) and number % self.global_every != 0

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(T, D) -> (T, D)."""
        if self.input_norm is not None:
            x = self.input_norm(x)
        if self.input_dropout:
            x = F.dropout(x, self.input_dropout, self.training)
        grouped = by_length(layout) if x.device.type == "cpu" else None
        if grouped is not None:
            layout, rows, places = grouped
            x = x[rows]
        wide, near = self._views(layout, x.device)
        dropped = self._dropped()
        for number, block in enumerate(self.blocks):
            reach, angles = near if self.is_local(number) else wide
            if dropped[number]:
                x = block(x, reach, angles, skipped=True)
            elif self.checkpoint_every and number % self.checkpoint_every == 0 and torch.is_grad_enabled():
                x = checkpoint(block, x, reach, angles, use_reentrant=False, preserve_rng_state=self._draws(block))
            else:
                x = block(x, reach, angles)
        x = self.norm(x)
        return x if grouped is None else x[places]

    def checkpoint_blocks(self, blocks: str | int) -> None:
        """Changes which blocks are computed again in the backward pass; see the setting of this name."""
        self.checkpoint_every = _every(blocks)

    def compile_blocks(self, **options: Any) -> None:
        """Compiles each block by itself; ``options`` are those of ``torch.compile``."""
        for block in self.blocks:
            block.compile(**options)

    def _views(self, layout: Layout, device: torch.device) -> list[tuple[Reach, Angles | None]]:
        return [
            (Reach(layout, self.causal, window), rotary.angles(layout, device) if rotary is not None else None)
            for window, rotary in ((0, self.rotary), (self.window, self.local_rotary))
        ]

    def _dropped(self) -> list[bool]:
        if not (self.training and self.layer_drop):
            return [False] * len(self.blocks)
        # Drawn on the host from the state that a step seeds: no device is waited for.
        return (torch.rand(len(self.blocks), device="cpu") < self.layer_drop).tolist()

    def _draws(self, block: nn.Module) -> bool:
        return self.training and any(getattr(block, name) for name in ("dropout", "attention_dropout", "mlp_dropout"))


def _every(blocks: str | int) -> int:
    if blocks in ("none", "all"):
        return int(blocks == "all")
    if not isinstance(blocks, int) or isinstance(blocks, bool) or blocks < 1:
        raise InputError(f"checkpoint_blocks={blocks!r} is unknown; choices: none, all, k (every k-th block)")
    return blocks


def trunk_of(settings: Mapping[str, Any] | None, **given: Any) -> Transformer:
    """A trunk from an encoder's own arguments, ``given``, and its config's further ``trunk`` settings.

    Raises:
        InputError: a setting is unknown or among those that the encoder itself gives.
    """
    names = [name for name in inspect.signature(Transformer).parameters if name not in given]
    for key in settings or {}:
        if key not in names:
            raise InputError(f"unknown key 'trunk.{key}'; {choices(str(key), names)}")
    return Transformer(**given, **(settings or {}))
