import pytest
import torch

from data.errors import InputError
from pretrain.optim.adamw import adamw
from pretrain.optim.state import settle
from tests.pretrain.optim.test_groups import Two


def stepped(optimizer, model):
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("fused", [None, True, False])
def test_every_implementation_is_torchs_plain_loop(fused):
    model, twin = Two(), Two()
    found = stepped(adamw(model.named_parameters(), 0.01, weight_decay=0.1, fused=fused), model)
    groups = [{"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0} for p in twin.parameters()]
    plain = torch.optim.AdamW(groups, lr=0.01, foreach=False, fused=False)
    for a, b in zip(found, stepped(plain, twin), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("device", "how"), [("cpu", (True, False)), ("cuda", (True, False)), ("mps", (False, True))])
def test_the_device_decides(device, how):
    group = adamw(Two().named_parameters(), 0.01, device=device).param_groups[0]
    assert (group["fused"], group["foreach"]) == how


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_averages_have_the_precision_of_weights_that_were_converted(dtype):
    model = Two()
    optimizer = adamw(model.named_parameters(), 0.01)
    stepped(optimizer, model)
    model.to(dtype)
    settle(optimizer)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for p, state in optimizer.state.items():
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == p.dtype == dtype
        assert state["step"].dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_counters_follow_a_fused_optimizer_to_the_device():
    model = Two()
    optimizer = adamw(model.named_parameters(), 0.01, device="cuda")
    stepped(optimizer, model)
    model.cuda()
    for state in optimizer.state.values():
        state.update({k: v.cuda() for k, v in state.items() if k != "step"})
    settle(optimizer)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(float(s["step"]) == 5 and s["step"].is_cuda for s in optimizer.state.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": 0.9}, "betas=0.9 is not two numbers"),
        ({"betas": [0.9, 0.95, 0.99]}, r"betas=\[0.9, 0.95, 0.99\] is not two numbers"),
        ({"betas": [0.9, 1]}, "betas=.* is not two numbers of at least 0 and below 1"),
        ({"betas": "0.9,0.98"}, "betas='0.9,0.98' is not two numbers"),
        ({"eps": "small"}, "eps='small' is no number of 0 or more"),
    ],
)
def test_what_torch_cannot_take_or_would_not_look_at_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        adamw(Two().named_parameters(), 0.01, **settings)
