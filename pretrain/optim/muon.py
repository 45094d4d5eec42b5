"""Muon for hidden matrices, AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from data.errors import InputError, choices
from pretrain.optim.adamw import adamw_of
from pretrain.optim.groups import groups, trained
from pretrain.sharding.local import box_of, local

ADJUST = {"rms": "match_rms_adamw", "shape": "original"}


class Muon(torch.optim.Muon):
    """Torch's Muon, also of matrices that are divided between processes by their rows.

    Momentum is kept in parts; each process gathers one matrix at a time, makes it orthogonal and applies its own rows.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update."""
        # Torch's step passes over parameters without gradient, so the divided ones are taken out of its sight.
        found = [(g, p, p.grad) for g in self.param_groups for p in g["params"] if isinstance(p.grad, DTensor)]
        for group, p, grad in found:
            self._turn(group, p, grad)
            p.grad = None
        loss = super().step(closure)
        for _, p, grad in found:
            p.grad = grad
        return loss

    def _turn(self, group: Mapping[str, Any], p: nn.Parameter, grad: DTensor) -> None:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        buffer, momentum = state["momentum_buffer"], group["momentum"]
        buffer.lerp_(grad, 1 - momentum)
        update: DTensor = grad.lerp(buffer, momentum) if group["nesterov"] else buffer  # type: ignore[assignment]
        # A stand-in that begins at 0 and has no momentum of its own ends at minus the rate times the whole update.
        whole = nn.Parameter(torch.zeros(p.shape, dtype=p.dtype, device=p.device))
        whole.grad = update.full_tensor()
        options = {key: group[key] for key in ("lr", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")}
        torch.optim.Muon([whole], weight_decay=0.0, momentum=0.0, nesterov=False, **options).step()
        (begin, *_), (rows, *_) = box_of(p)
        local(p).mul_(1 - group["lr"] * group["weight_decay"]).add_(whole[begin : begin + rows])


class MuonAdamW(torch.optim.Optimizer):
    """Two optimizers with one list of groups and one state, so that schedules and checkpoints see a single one.

    Args:
        muon: of the hidden matrices.
        adamw: of the rest.
        lr: the learning rate that a schedule's factor multiplies.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW | None, lr: float) -> None:
        self.parts: list[torch.optim.Optimizer] = [muon, *([adamw] if adamw else [])]
        # The group dicts are the parts' own: a rate set here is a rate set there.
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        for part in self.parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def muon(
    parameters: Iterable[tuple[str, nn.Parameter]],
    lr: float,
    weight_decay: float = 0.05,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    adjust: str = "rms",
    adamw_lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-8,
    layer_decay: float = 1.0,
    lr_factors: Mapping[str, float] | None = None,
    decay_embeddings: bool = True,
    fused: bool | None = None,
    device: str = "cpu",
) -> MuonAdamW:
    """Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal, for the matrices of encoders' layers.

    Embeddings, projections, heads and vectors are AdamW's.

    Args:
        parameters: (name, parameter) pairs.
        lr: learning rate of the hidden matrices.
        weight_decay: of matrices, in both.
        momentum: of Muon.
        nesterov: whether the gradient is added to the momentum once more.
        ns_steps: Newton-Schulz iterations.
        adjust: ``rms`` scales an A x B update by 0.2 sqrt(max(A, B)), so that rates and decay found for AdamW fit
            (Liu et al. 2025, eq. 4); ``shape`` by sqrt(max(1, A / B)), as Jordan's own.
        adamw_lr: learning rate of the rest; None: the same.
        betas: of AdamW.
        eps: of AdamW.
        layer_decay: factor of the rate from an encoder's layer to the one below it.
        lr_factors: place in the model -> factor of the rate; 0 freezes. See :func:`pretrain.optim.groups.trained`.
        decay_embeddings: whether token and position embeddings decay.
        fused: of AdamW; see :func:`pretrain.optim.adamw.adamw`.
        device: type of the device that the run is computed on.

    Raises:
        InputError: an unknown ``adjust``, or no encoder with numbered layers.
    """
    if adjust not in ADJUST:
        raise InputError(f"adjust '{adjust}' is not there; {choices(adjust, ADJUST)}")
    parts = trained(parameters, layer_decay, lr_factors, decay_embeddings)
    hidden, others = [p for p in parts if p.hidden], [p for p in parts if not p.hidden]
    if not hidden:
        raise InputError("no encoder has numbered layers with matrices to train; use optimizer=adamw")
    matrices = Muon(
        groups(hidden, lr, weight_decay),
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        ns_steps=ns_steps,
        adjust_lr_fn=ADJUST[adjust],
    )
    rest = None
    if others:
        own = lr if adamw_lr is None else adamw_lr
        rest = adamw_of(groups(others, own, weight_decay), own, betas, eps, fused, device)
    return MuonAdamW(matrices, rest, lr)
