import math

import pytest
import torch
from torch import nn

from data.errors import InputError
from pretrain.optim.muon import MuonAdamW, muon
from pretrain.optim.state import optimizer_tensors, restore_optimizer
from tests.pretrain.optim.test_groups import Two


def reference(weight, grads, lr, decay, momentum, steps, adjust):
    """Muon as its author writes it (Jordan 2024), in plain lines and without its bfloat16."""
    buffer = torch.zeros_like(weight)
    for grad in grads:
        buffer = momentum * buffer + (1 - momentum) * grad
        x = ((1 - momentum) * grad + momentum * buffer).double()
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / x.norm()
        for _ in range(steps):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = (x.T if tall else x).float()
        rows, columns = weight.shape
        scale = 0.2 * math.sqrt(max(rows, columns)) if adjust == "rms" else math.sqrt(max(1, rows / columns))
        weight = weight * (1 - lr * decay) - lr * scale * x
    return weight


@pytest.mark.parametrize("adjust", ["rms", "shape"])
def test_hidden_matrices_follow_the_formula_and_the_rest_adamw(adjust):
    model, twin = Two(), Two()
    optimizer = muon(model.named_parameters(), 0.05, weight_decay=0.3, adjust=adjust, adamw_lr=0.01, fused=False)
    matrices = {n for n, p in model.named_parameters() if ".blocks." in n and p.ndim == 2}
    others = [p for n, p in twin.named_parameters() if n not in matrices]
    plain = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.3 if p.ndim >= 2 else 0.0} for p in others],
        lr=0.01,
        betas=(0.9, 0.98),
        foreach=False,
    )
    grads = []
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        grads.append({n: torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()})
        for each in (model, twin):
            for n, p in each.named_parameters():
                p.grad = grads[-1][n].clone()
        optimizer.step()
        plain.step()
    assert matrices
    for name, p in model.named_parameters():
        if name in matrices:
            expected = reference(before[name], [g[name] for g in grads], 0.05, 0.3, 0.95, 5, adjust)
            assert (p - expected).norm() < 0.06 * (expected - before[name]).norm(), name  # bfloat16 inside
        else:
            torch.testing.assert_close(p.detach(), dict(twin.named_parameters())[name].detach())


def test_its_update_is_nearly_orthogonal():
    p = nn.Parameter(torch.zeros(16, 48))
    optimizer = muon([("encoders.x.blocks.0.w", p)], 1.0, weight_decay=0.0, adjust="shape")
    p.grad = torch.randn(16, 48, generator=torch.Generator().manual_seed(0)) * 7
    optimizer.step()
    values = torch.linalg.svdvals(p.detach())
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_one_state_by_name_and_a_rate_for_both():
    model, again = Two(), Two()
    optimizer = muon(model.named_parameters(), 0.05, lr_factors={"text": 0.5})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    state = optimizer_tensors(optimizer, model)
    kinds = {name.rsplit("/", 1)[1] for name in state}
    assert kinds == {"momentum_buffer", "step", "exp_avg", "exp_avg_sq"}
    fresh = muon(again.named_parameters(), 0.05, lr_factors={"text": 0.5})
    restore_optimizer(fresh, again, state)
    assert optimizer_tensors(fresh, again).keys() == state.keys()
    assert isinstance(fresh, MuonAdamW)
    with pytest.raises(InputError, match=r"is momentum_buffer, this optimizer's exp_avg, exp_avg_sq, step"):
        restore_optimizer(torch.optim.AdamW(again.parameters()), again, state)


def test_state_of_a_parameter_that_is_frozen_now_is_left_out():
    model = Two()
    whole = muon(model.named_parameters(), 0.05)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    whole.step()
    state = optimizer_tensors(whole, model)
    part = muon(model.named_parameters(), 0.05, lr_factors={"image": 0})
    restore_optimizer(part, model, state)
    kept = optimizer_tensors(part, model)
    assert kept.keys() == {name for name in state if not name.startswith("encoders.image.")}


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"no encoder has numbered layers"):
        muon([("objectives.x.weight", nn.Parameter(torch.zeros(2, 2)))], 0.1)
    with pytest.raises(InputError, match=r"adjust 'rsm' is not there; did you mean 'rms'\?"):
        muon(Two().named_parameters(), 0.1, adjust="rsm")
