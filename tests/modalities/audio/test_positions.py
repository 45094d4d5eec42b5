import pytest
import torch
import torch.nn.functional as F

from data.errors import InputError
from modalities.audio.positions import ConvPositions, transforms
from modalities.layout import Layout

LENGTHS = [70, 1, 129, 33]


def reference(module, x, layout):
    """Each clip alone by ``conv1d`` with the normed weight, as fairseq and transformers do."""
    weight = module.gain * module.direction / module.direction.square().sum((0, 1), keepdim=True).sqrt()
    parts = []
    for clip in x.split(layout.lengths):
        found = F.conv1d(clip.t()[None], weight, module.bias, padding=module.kernel // 2, groups=module.groups)
        parts.append(F.gelu(found[0, :, : len(clip)].t()))
    return torch.cat(parts)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def positions(kernel, groups, width=24):
    torch.manual_seed(0)
    module = ConvPositions(width, kernel, groups)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    return module


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("kernel", "groups"), [(128, 4), (16, 24), (7, 1), (2, 3)])
def test_equals_conv1d_of_each_clip_with_gradients(kernel, groups):
    module, layout = positions(kernel, groups), Layout(LENGTHS)
    x = torch.randn(layout.total, 24, requires_grad=True)
    found, expected = module(x, layout), reference(module, x, layout)
    assert torch.allclose(found, expected, atol=1e-10)
    weight = torch.randn_like(found)
    inputs = [x, *module.parameters()]
    mine = torch.autograd.grad((found * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-9 * max(1, b.abs().max()))


def test_float32_is_as_near_as_a_convolution():
    module, layout = ConvPositions(64, 128, 4), Layout([300, 500])
    x = torch.randn(800, 64)
    expected = reference(module, x, layout)
    assert (module(x, layout) - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.usefixtures("double")
def test_a_clip_does_not_see_its_neighbours():
    module, layout = positions(128, 4), Layout(LENGTHS)
    x = torch.randn(layout.total, 24)
    found = module(x, layout).split(LENGTHS)
    other = x.clone()
    other[: LENGTHS[0]] += 1e6
    for i, rows in enumerate(module(other, layout).split(LENGTHS)):
        assert torch.allclose(rows, found[i], atol=1e-6) == (i > 0)
    alone = module(x.split(LENGTHS)[2], Layout(LENGTHS[2:3]))
    assert torch.allclose(alone, found[2], atol=1e-12)


def test_transforms_are_those_of_fourier():
    analysis, synthesis = transforms(12, 12)
    x = torch.randn(12)
    expected = torch.fft.rfft(x)
    assert torch.allclose(analysis @ x, torch.cat((expected.real, expected.imag)), atol=1e-5)
    assert torch.allclose(synthesis @ (analysis @ x), x, atol=1e-6)


def test_autocast_keeps_float32_inside():
    module, layout = ConvPositions(64, 16, 4), Layout([50])
    x = torch.randn(50, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x, layout), module(x, layout).float())
        half = module(x.bfloat16(), layout)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), module(x, layout), atol=0.02)


def test_begins_with_the_published_spread():
    torch.manual_seed(0)
    module = ConvPositions(768)
    assert module.direction.std().item() == pytest.approx(2 * (128 * 768) ** -0.5, rel=0.01)
    weight = module.gain * module.direction / torch.linalg.vector_norm(module.direction, dim=(0, 1), keepdim=True)
    assert torch.allclose(weight, module.direction)


def test_settings_are_checked():
    with pytest.raises(InputError, match="position_groups=5 does not divide width=24"):
        ConvPositions(24, 8, 5)
    with pytest.raises(InputError, match="position_kernel=1"):
        ConvPositions(24, 1, 4)
