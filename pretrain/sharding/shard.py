"""Divides a model between processes by torch's ``fully_shard`` (FSDP2; Zhao et al. 2023)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from data.errors import InputError
from modalities.audio.frontend import ConvFrontend
from modalities.audio.mel import MelFrontend
from modalities.pairs import Pairs
from modalities.plugin import PluginEncoder
from pretrain.sharding.local import divided

# The numbered layers of an encoder: our trunk's blocks, and the names that timm and transformers use.
_LAYER = re.compile(r"(?:^|\.)(?:blocks|layers?|h)\.\d+$")


def shard(model: nn.Module, optimizer: torch.optim.Optimizer, mesh: DeviceMesh) -> None:
    """Leaves each process of ``mesh`` its rows of every parameter; ``optimizer`` goes on with those.

    Numbered layers and convolutional front ends are gathered one at a time when they are computed, and once more for
    their backward pass; all else (embeddings, projections, heads) together, from :meth:`Model.run` to the end of the
    backward pass. Gradients are summed, not averaged: losses are already divided by the global counts.

    Args:
        model: called by ``model.run(...)`` for each forward pass.
        optimizer: has made no step.
        mesh: of one dimension, or (copies, parts) for HSDP.

    Raises:
        InputError: a plug-in encoder leaves out layers at random: processes would wait for each other's for ever.
    """
    for plugin in model.modules():
        if isinstance(plugin, PluginEncoder) and plugin.layer_drop:
            raise InputError(
                f"{plugin.title} leaves out layers by itself (layer drop {plugin.layer_drop:g}), each process others, "
                "which fsdp and hsdp cannot gather; set it to 0, or trainer.strategy=ddp"
            )
    before = dict(model.named_parameters())
    for module in reversed(gathered_apart(model)):  # the inner ones of nested stacks first
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(kept_whole(model)))
    for part in fsdp_parts(model):
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    _repoint(optimizer, {before[name]: p for name, p in model.named_parameters()})


def gathered_apart(model: nn.Module) -> list[nn.Module]:
    """Layers and front ends, which a divided model gathers one at a time."""
    fronts = (ConvFrontend, MelFrontend)
    return [module for name, module in model.named_modules() if _LAYER.search(name) or isinstance(module, fronts)]


def kept_whole(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that every process has all of: scalars, and those of losses that are no part of a forward pass."""
    found = {p: None for module in model.modules() if isinstance(module, Pairs) for p in module.parameters()}
    return list(found | {p: None for p in model.parameters() if not p.ndim})


def fsdp_parts(model: nn.Module) -> list[FSDPModule]:
    """The parts that are gathered by themselves; none where the model is not divided."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def reshard(model: nn.Module) -> None:
    """Gives up gathered parameters: after a change of the parts, what was gathered before is out of date."""
    for part in fsdp_parts(model):
        part.reshard()


def _repoint(optimizer: torch.optim.Optimizer, new: dict[nn.Parameter, nn.Parameter]) -> None:
    """Lets ``optimizer`` change ``new`` parameters instead of old ones.

    Parameters that are kept whole get groups of their own, as no kernel takes both kinds together.
    """
    for part in getattr(optimizer, "parts", [optimizer]):
        more: list[dict[str, Any]] = []
        for group in part.param_groups:
            members = [new[p] for p in group["params"]]
            first, *others = [kind for kind in divided(members) if kind]
            group["params"] = first
            more += [{**group, "params": other} for other in others]
        part.param_groups.extend(more)
        if part is not optimizer:
            optimizer.param_groups.extend(more)
