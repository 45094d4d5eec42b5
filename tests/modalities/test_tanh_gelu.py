import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from modalities import tanh_gelu as module
from modalities.tanh_gelu import tanh_gelu


def torchs(x):
    """Torch's, of more digits: (value, derivative)."""
    x = x.detach().double().requires_grad_()
    y = F.gelu(x, approximate="tanh")
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(module._FEWEST,), (3, 77, 1025), (module._PIECE // 4 + 1,)])
def test_as_torchs_with_its_gradient(shape, threads):
    x = (4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    torch.set_num_threads(threads)
    y = tanh_gelu(x)
    y.backward(torch.ones_like(y))
    with torch.no_grad():
        assert torch.equal(tanh_gelu(x), y)  # the same bits where no gradient is asked for
    assert type(y.grad_fn).__name__ == "_TanhGeluBackward"
    value, slope = torchs(x)
    assert torch.allclose(y.double(), value, rtol=2e-6, atol=1e-6)
    assert torch.allclose(x.grad.double(), slope, rtol=0, atol=5e-6)
    again = torch.autograd.grad(tanh_gelu(x).sum(), x)[0]
    assert torch.equal(again, x.grad)


def test_the_gradient_is_that_of_differences(monkeypatch):
    monkeypatch.setattr(module, "_FEWEST", 1)
    monkeypatch.setattr(module, "_PIECE", 8 * 7)
    x = torch.linspace(-6, 6, 60, dtype=torch.float64).view(5, 12).T.requires_grad_()  # not contiguous
    assert torch.autograd.gradcheck(tanh_gelu, (x,))
    assert torch.equal(tanh_gelu(x).detach(), tanh_gelu(x.detach().contiguous()))


def test_bits_do_not_depend_on_the_place():
    x = 4 * torch.randn(2 * module._FEWEST + 77, generator=torch.Generator().manual_seed(1))
    begin, end = 3, module._FEWEST + 18
    cut, whole = x[begin:end].clone().requires_grad_(), x.clone().requires_grad_()
    for one in (cut, whole):
        tanh_gelu(one).sum().backward()
    assert torch.equal(tanh_gelu(x)[begin:end], tanh_gelu(cut).detach())
    assert torch.equal(whole.grad[begin:end], cut.grad)


def test_large_and_broken_numbers():
    x = torch.zeros(module._FEWEST)
    x[:6] = torch.tensor([1e4, -1e4, 100.0, -100.0, float("inf"), float("nan")])
    x.requires_grad_()
    y = tanh_gelu(x)
    y.sum().backward()
    assert y[:5].tolist() == [1e4, 0, 100, 0, float("inf")]
    assert x.grad[:4].tolist() == [1, 0, 1, 0]
    assert y[5].isnan()
    assert (x.grad[6:] == 0.5).all()


def test_what_is_traced_or_without_contents_is_torchs_operator():
    x = torch.randn(module._FEWEST)
    graph = torch.export.export(Module(), (x,)).graph
    assert "aten.gelu.default" in str(graph)
    with FakeTensorMode() as mode:
        assert type(tanh_gelu(mode.from_tensor(x).requires_grad_()).grad_fn).__name__ == "GeluBackward0"
    assert "gelu" in str(torch.jit.trace(tanh_gelu, (x,)).graph)
    assert type(tanh_gelu(x[:5].requires_grad_()).grad_fn).__name__ == "GeluBackward0"
    assert tanh_gelu(x.bfloat16()).dtype == torch.bfloat16


def test_other_ways_of_derivatives_are_torchs():
    x = torch.randn(2, module._FEWEST)
    expected = torch.stack([torchs(row)[1].float() for row in x])
    found = torch.func.vmap(torch.func.grad(lambda row: tanh_gelu(row).sum()))(x)
    assert torch.allclose(found, expected, atol=5e-6)
    _, slope = torch.func.jvp(tanh_gelu, (x,), (torch.ones_like(x),))
    assert torch.allclose(slope, expected, atol=5e-6)
    assert "gelu" in str(torch.fx.symbolic_trace(Module()).graph)


def test_a_second_derivative_is_refused():
    x = torch.randn(module._FEWEST, requires_grad=True)
    with pytest.raises(RuntimeError, match="TanhGelu has no second derivative"):
        torch.autograd.grad(tanh_gelu(x).sum(), x, create_graph=True)


class Module(torch.nn.Module):
    def forward(self, x):
        return tanh_gelu(x)
