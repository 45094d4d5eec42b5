import pytest
import torch
import torch.nn.functional as F

from data.errors import InputError
from modalities.audio.clip_norm import normed_conv
from modalities.audio.frontend import ConvFrontend, RowConv

SHAPES = [((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)), ((7, 5, 4), (3, 2, 2)), ((4, 3, 5), (4, 3, 2))]


def reference(frontend, clip):
    """The same layers by ``torch.nn.functional.conv1d``, channels first; (S,) -> (T, C)."""
    x = clip.view(1, 1, -1)
    for number, conv in enumerate(frontend.convs):
        x = F.conv1d(x, conv.weight, conv.bias, conv.stride)
        if len(frontend.norms) > 1:
            x = frontend.norms[number](x.transpose(1, 2)).transpose(1, 2)
        elif number == 0:
            x = frontend.norms[0](x)
        x = F.gelu(x)
    return x[0].t()


def flat(frontend, clips):
    """Clips end to end, and each clip's rows."""
    parts = [F.pad(clip, (0, -len(clip) % frontend.hop)) for clip in clips]
    begins, rows = 0, []
    for clip, part in zip(clips, parts, strict=True):
        rows.append(torch.arange(frontend.frames(len(clip))) + begins // frontend.hop)
        begins += len(part)
    return torch.cat(parts), rows


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize(("kernels", "strides"), SHAPES)
def test_equals_conv1d_with_gradients(kernels, strides, norm):
    torch.manual_seed(0)
    frontend = ConvFrontend(8, kernels, strides, norm)
    for parameter in frontend.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.5)
    hop, field = frontend.hop, frontend.receptive_field
    clips = [torch.randn(n) for n in (field, 7 * hop, 7 * hop + field - 1, 9 * hop + 1)]
    wave, rows = flat(frontend, clips)
    expected = [reference(frontend, clip) for clip in clips]
    found = frontend(wave, [len(clip) for clip in clips])
    assert [len(x) for x in expected] == [frontend.frames(len(clip)) for clip in clips]
    weights = [torch.randn_like(x) for x in expected]
    for mine, theirs in zip(rows, expected, strict=True):
        assert torch.allclose(found[mine], theirs, atol=1e-5)
    parameters = list(frontend.parameters())
    mine = sum((found[i] * w).sum() for i, w in zip(rows, weights, strict=True))
    theirs = sum((x * w).sum() for x, w in zip(expected, weights, strict=True))
    for a, b in zip(torch.autograd.grad(mine, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, atol=1e-5 * max(1, b.abs().max()))


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_clip_alone_equals_clip_among_others(norm):
    torch.manual_seed(0)
    frontend = ConvFrontend(16, norm=norm)
    clips = [torch.randn(n) * size for n, size in ((4000, 1), (6399, 3), (3200, 0.1))]
    wave, rows = flat(frontend, clips)
    found = frontend(wave, [len(clip) for clip in clips])
    for clip, mine in zip(clips, rows, strict=True):
        alone, own = flat(frontend, [clip])
        assert torch.allclose(frontend(alone, [len(clip)])[own[0]], found[mine], atol=1e-6)


def test_norm_over_a_clip_keeps_its_digits_on_a_smooth_sound():
    # Neighbouring samples differ by a hundredth: in float32 the variance of a difference would be all rounding.
    torch.manual_seed(0)
    taps = torch.sin(torch.arange(40000) * 1e-2).unfold(0, 10, 5)
    weight = torch.randn(6, 10)
    weight = weight - weight.mean(1, keepdim=True)
    rows = [5000, len(taps) - 5000]
    found = normed_conv(taps, weight, torch.ones(6), torch.zeros(6), 1e-12, rows, rows)
    expected = [
        F.batch_norm(part, None, None, training=True, eps=1e-12)
        for part in (taps.double() @ weight.t().double()).split(rows)
    ]
    assert torch.allclose(found.double(), torch.cat(expected), atol=2e-3)
    assert found.var(0).mean().item() == pytest.approx(1, abs=1e-3)


def test_half_precision_of_the_norm_over_a_clip():
    frontend, wave = ConvFrontend(8, norm="group"), torch.randn(3200)
    with torch.autocast("cpu", torch.bfloat16):
        found = frontend(wave)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert frontend.norms[0].weight.grad.dtype == torch.float32
    assert torch.allclose(found.float(), frontend(wave), atol=0.1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (7, 3), (5, 1)])
def test_backward_of_one_convolution(kernel, stride, bias):
    conv = RowConv(3, 4, kernel, stride, bias).double()
    x = torch.randn(6 * stride, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,))
    expected = F.conv1d(F.pad(x.t()[None], (0, kernel - stride)), conv.weight, conv.bias, stride)[0].t()
    assert torch.allclose(conv(x), expected)
    mine = torch.autograd.grad(conv(x).sin().sum(), [x, *conv.parameters()])
    theirs = torch.autograd.grad(expected.sin().sum(), [x, *conv.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(mine, theirs, strict=True))


def test_autocast_reaches_the_products():
    frontend = ConvFrontend(8)
    wave = torch.randn(3200)
    with torch.autocast("cpu", torch.bfloat16):
        assert frontend.convs[1](torch.randn(6, 8)).dtype == torch.bfloat16
        found = frontend(wave)
    found.float().sum().backward()
    assert frontend.convs[1].weight.grad.dtype == torch.float32
    assert torch.allclose(found.float(), frontend(wave), atol=0.1)


def test_wav2vec_geometry():
    frontend = ConvFrontend(4)
    assert (frontend.hop, frontend.receptive_field) == (320, 400)
    assert [frontend.frames(n) for n in (400, 719, 720, 16000)] == [1, 1, 2, 49]


def test_settings_are_checked():
    with pytest.raises(InputError, match="'batch' is unknown; choices: layer, group"):
        ConvFrontend(4, norm="batch")
    with pytest.raises(InputError, match="kernels"):
        ConvFrontend(4, (3, 2), (2,))
    with pytest.raises(InputError, match="kernels"):
        ConvFrontend(4, (3, 2), (2, 3))
