"""The transformers of our sides alone, without embeddings, front ends, heads, losses and the optimizer."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from step_bench import flops
from step_bench.case import Case, Setup
from step_bench.measure import Row, interleaved, spread
from step_bench.side import Ours, Side
from step_bench.verdict import SHARE
from torch import Tensor

from modalities.block import Block
from modalities.layout import Layout
from modalities.transformer import Transformer


class Call(NamedTuple):
    """What a trunk was given in a step."""

    trunk: Transformer
    x: Tensor
    layout: Layout


def useful(trunk: Transformer, layout: Layout) -> float:
    """FLOPs of a trunk, forward and backward, by the formula of the whole step."""
    total = 0.0
    for number, block in enumerate(trunk.blocks):
        assert isinstance(block, Block)
        hidden = block.mlp_out.in_features
        total += flops.block(
            layout.lengths,
            block.mlp_out.out_features,
            hidden,
            gated=block.mlp_in.out_features == 2 * hidden,
            window=trunk.window if trunk.is_local(number) else 0,
            causal=trunk.causal,
        )
    return 3 * total


def _calls(side: Ours) -> list[Call]:
    """What the trunks of a side are given in its next step; the step is made."""
    found: list[Call] = []
    trunks = [module for module in side.parts.modules() if isinstance(module, Transformer)]
    hooks = [
        trunk.register_forward_pre_hook(lambda trunk, given: found.append(Call(trunk, given[0].detach(), given[1])))
        for trunk in trunks
    ]
    side.round()
    for hook in hooks:
        hook.remove()
    return found


def _round(side: Ours, calls: list[Call], gradients: list[Tensor]) -> Row:
    row = Row(0, 0.0)
    for (trunk, x, layout), gradient in zip(calls, gradients, strict=True):
        with side.autocast():
            y = trunk(x.requires_grad_(), layout)
        y.backward(gradient.to(y.dtype))
        x.grad = None
        trunk.zero_grad()
        row.units, row.useful = row.units + layout.total, row.useful + useful(trunk, layout)
    return row


def measured(case: Case, sides: dict[str, Side], rounds: int, setup: Setup) -> list[dict[str, Any]]:
    """A row for each of our sides; a product beside each round as for whole steps."""
    rounds_of = {}
    for name, side in sides.items():
        if isinstance(side, Ours):
            calls = _calls(side)
            gradients = [torch.randn_like(call.x) for call in calls]
            rounds_of[name] = lambda side=side, calls=calls, gradients=gradients: _round(side, calls, gradients)
            rounds_of[name]()
    found, _ = interleaved(rounds_of, rounds, setup.device, setup.dtype)
    return [
        {"what": "trunks", "case": case.name, "side": name, "rows": own[0].units}
        | {"useful_gflop": own[0].useful / 1e9, "share_cpu": spread(row.share for row in own)}
        for name, own in found.items()
    ]


def lines(case: Case, rows: list[dict[str, Any]]) -> list[str]:
    """PASS or FAIL for the transformers of each side."""
    out = []
    for row in rows:
        if row["what"] == "trunks" and row["case"] == case.name:
            value = row["share_cpu"]["median"]
            word = "PASS" if value >= SHARE else "FAIL"
            out.append(
                f"{word}  {case.name:<10} {row['side']}: share of the matrix product's rate, its transformers alone  "
                f"{value:.3f} >= {SHARE}"
            )
    return out
