"""An optimizer's state by parameter name, as checkpoints hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.errors import InputError
from pretrain.optim.ema import Ema

# What each of torch's optimizers keeps a parameter; an optimizer that finds something else fails in its first step.
_ADAM, _MUON = frozenset({"step", "exp_avg", "exp_avg_sq"}), frozenset({"momentum_buffer"})


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The state of ``optimizer`` by parameter name, ``NAME/exp_avg`` and so on.

    Raises:
        InputError: it keeps something else than tensors, which a checkpoint could not give back as it was.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    for p, state in optimizer.state.items():
        for key, value in state.items():
            if value is not None and not isinstance(value, Tensor):
                raise InputError(
                    f"{type(optimizer).__name__} keeps '{key}' of '{names[id(p)]}' as {type(value).__name__}; "
                    "only optimizers whose state is tensors can be continued exactly"
                )
    return {
        f"{names[id(p)]}/{key}": value
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts back what :func:`optimizer_tensors` gave, for the parameters that are trained.

    Raises:
        InputError: the state belongs to a parameter that the model lacks, or to an optimizer of another kind.
    """
    parameters = dict(model.named_parameters())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    restored: dict[str, set[str]] = {}
    for full, tensor in tensors.items():
        name, _, key = full.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint has optimizer state for '{name}', which this model lacks")
        if id(parameters[name]) not in trained:
            continue  # frozen since
        # Step counters stay on the host, as torch keeps them unless the optimizer is fused; see settle().
        device = parameters[name].device if tensor.ndim else tensor.device
        optimizer.state[parameters[name]][key] = tensor.to(device, copy=True)
        restored.setdefault(name, set()).add(key)
    for name, keys in restored.items():
        wanted = _wanted(optimizer, parameters[name])
        if wanted is not None and keys != wanted:
            raise InputError(
                f"the checkpoint's optimizer state of '{name}' is {', '.join(sorted(keys))}, this optimizer's "
                f"{', '.join(sorted(wanted))}: another optimizer, or another division of the parameters; begin a new "
                "run with init_from to keep the weights"
            )


def state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None) -> int:
    """Bytes of a checkpoint's tensors, all processes' together; of the optimizer's as many as its first step makes."""
    count = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    for group in optimizer.param_groups:
        for p in group["params"]:
            kept = [v for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor)]
            if kept:
                count += sum(v.numel() * v.element_size() for v in kept)
            else:
                count += (1 if _wanted(optimizer, p) == _MUON else 2) * p.numel() * p.element_size()
    return count + (sum(4 * t.numel() for t in ema.tensors.values()) if ema is not None else 0)


def settle(optimizer: torch.optim.Optimizer) -> None:
    """Brings the state to what the optimizer wants it to be, once the model is what and where it will be computed.

    Step counters: beside the parameter if the optimizer is fused, else on the host. Lightning moves the model and the
    rest of the state to the device, but never these. Averages: of the precision of their weights, which the run's last
    start may have had in another (``trainer.precision``); torch's optimizers compute with nothing else.
    """
    for group in optimizer.param_groups:
        for p in group["params"]:
            for key in _wanted(optimizer, p) or ():
                value = optimizer.state.get(p, {}).get(key)
                if isinstance(value, Tensor) and key != "step" and value.dtype != p.dtype:
                    optimizer.state[p][key] = value.to(p.dtype)
        if group.get("fused") or group.get("capturable"):
            for p in group["params"]:
                state = optimizer.state.get(p, {})
                if isinstance(state.get("step"), Tensor):
                    state["step"] = state["step"].to(p.device)


def _wanted(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> frozenset[str] | None:
    """What ``optimizer`` keeps of ``parameter``; None if that is not known here."""
    for part in getattr(optimizer, "parts", [optimizer]):
        if any(parameter is p for group in part.param_groups for p in group["params"]):
            if isinstance(part, torch.optim.Muon):
                return _MUON
            plain = type(part) in (torch.optim.Adam, torch.optim.AdamW) and not part.defaults.get("amsgrad")
            return _ADAM if plain else None
    return None
