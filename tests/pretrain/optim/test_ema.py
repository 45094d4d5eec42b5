import pytest
import torch
from torch import nn

from data.errors import InputError
from pretrain.checkpoint import Content, digest, find, publish
from pretrain.optim.ema import Ema


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].requires_grad_(False)
    return model


def wander(model, step):
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in model[0].parameters():
            p += torch.randn(p.shape, generator=generator).to(p.dtype)


@pytest.mark.parametrize("every", [1, 3])
def test_it_is_the_plain_formula(model, every):
    ema = Ema(model, 0.9, every)
    ema.begin()
    expected = model[0].weight.detach().clone()
    for step in range(1, 8):
        wander(model, step)
        ema.update(step)
        if step % every == 0:
            expected = 0.9 * expected + 0.1 * model[0].weight.detach()
    torch.testing.assert_close(ema.tensors["0.weight"], expected)
    assert ema.tensors.keys() == {"0.weight", "0.bias"}  # what is frozen is its own average


def test_averages_are_float32_beside_bfloat16_weights(model):
    model.bfloat16()
    ema = Ema(model, 0.999)
    ema.begin()
    before = ema.tensors["0.weight"].clone()
    wander(model, 0)
    ema.update(1)
    moved = ema.tensors["0.weight"] - before
    assert ema.tensors["0.weight"].dtype == torch.float32
    torch.testing.assert_close(moved, 0.001 * (model[0].weight.float() - before), rtol=1e-3, atol=1e-7)


def test_within_swapped_the_model_is_the_average_and_then_itself_again(model):
    ema = Ema(model, 0.5)
    ema.begin()
    wander(model, 0)
    ema.update(1)
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    with ema.swapped():
        assert torch.equal(model[0].weight, ema.tensors["0.weight"])
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters())
    assert not torch.equal(model[0].weight, ema.tensors["0.weight"])


def test_it_goes_on_from_a_checkpoint_bit_for_bit(model, tmp_path):
    ema = Ema(model, 0.9)
    ema.begin()
    for step in range(1, 4):
        wander(model, step)
        ema.update(step)
    state = {"step": 3, "positions": {}, "schedule": {}}
    content = Content(dict(model.state_dict()), {}, state, ema.tensors)
    publish(tmp_path, content)
    found = find(tmp_path)
    assert digest(found) == digest(content) != digest(Content(content.model, {}, state))
    again = Ema(model, 0.9)
    again.begin(found.ema)
    for one in (ema, again):
        one.update(4)
    assert all(torch.equal(again.tensors[n], t) for n, t in ema.tensors.items())
    with pytest.raises(InputError, match=r"average of '0\.bias' is of shape"):
        again.begin({"0.bias": torch.zeros(9)})


def test_wrong_decay_is_named(model):
    with pytest.raises(InputError, match=r"ema\.decay=1\.0"):
        Ema(model, 1.0)
