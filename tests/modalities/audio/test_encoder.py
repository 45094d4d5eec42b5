import pytest
import torch

from data.errors import InputError
from data.seeds import generator
from modalities.audio.encoder import AudioEncoder
from modalities.audio.masking import MaskedAudioPrepare
from modalities.audio.prepare import AudioPrepare

LENGTHS = (8000, 5001, 6400)
LARGE = {"positions": "convolutional", "position_groups": 4}
BASE = {**LARGE, "frontend_norm": "group", "frontend_bias": False, "norm": "post", "trunk": {"input_norm": True}}


def encoder(**settings):
    torch.manual_seed(0)
    return AudioEncoder(channels=8, width=16, depth=2, heads=2, **settings)


@pytest.fixture
def items(recording):
    prepare = MaskedAudioPrepare()
    return [prepare(recording(samples=n, seed=n), generator(n), True) for n in LENGTHS]


@pytest.mark.parametrize("settings", [{}, BASE, LARGE], ids=["rotary", "base", "large"])
def test_clip_alone_equals_clip_among_others(items, settings):
    model, prepare = encoder(**settings), MaskedAudioPrepare()
    tokens, layout = model(prepare.collate(items)["audio"])
    assert tokens.shape == (sum((n - 400) // 320 + 1 for n in LENGTHS), 16)
    for item, mine in zip(items, tokens.split(layout.lengths), strict=True):
        assert torch.allclose(model(prepare.collate([item])["audio"]).tokens, mine, atol=1e-6)


def test_plain_inputs_are_the_masked_ones_without_masks(items):
    model = encoder()
    audio = MaskedAudioPrepare().collate(items)["audio"]
    plain = AudioPrepare().collate(items)
    without = {name: value for name, value in audio.items() if name != "masked"}
    assert torch.equal(model(plain).tokens, model(without).tokens)
    assert not torch.equal(model(plain).tokens, model(audio).tokens)
    assert model.pooled(plain).shape == (3, 16)


@pytest.mark.parametrize("settings", [{}, BASE, LARGE], ids=["rotary", "base", "large"])
def test_masked_frames_are_hidden_from_the_trunk(items, settings):
    model = encoder(**settings)
    audio = MaskedAudioPrepare().collate(items)["audio"]
    frames = model.features(audio)
    changed = frames.normed.clone()
    changed[audio["masked"]] += 1
    same = model.contextualise(frames._replace(normed=changed), audio).tokens
    assert torch.equal(same, model(audio).tokens)


def test_gradient_of_the_front_end_is_scaled(items):
    audio = MaskedAudioPrepare().collate(items)["audio"]
    grads = []
    for factor in (1.0, 0.1):
        model = encoder(feature_grad_mult=factor)
        model(audio).tokens.square().sum().backward()
        grads.append([model.frontend.convs[0].weight.grad, model.feature_norm.weight.grad])
    assert torch.allclose(grads[0][0] * 0.1, grads[1][0], atol=1e-7)
    assert torch.equal(grads[0][1], grads[1][1])


def test_disagreement_about_frames_is_named(items, recording):
    batch = AudioPrepare(kernels=(10, 3, 3, 3, 3, 2), strides=(5, 2, 2, 2, 2, 2)).collate(items)
    with pytest.raises(InputError, match="same kernels and strides"):
        encoder()(batch)
    with pytest.raises(InputError, match="masking=true"):
        encoder(masking=False)(MaskedAudioPrepare().collate(items)["audio"])


def test_settings_are_checked():
    with pytest.raises(InputError, match="positions 'learned' is unknown"):
        encoder(positions="learned")
    with pytest.raises(InputError, match=r"feature_dropout=1\.0"):
        encoder(feature_dropout=1.0)
    with pytest.raises(InputError, match=r"unknown key 'trunk\.rotary'"):
        encoder(trunk={"rotary": False})


def test_frames_are_dropped_in_training_alone(items):
    model, audio = encoder(feature_dropout=0.5), MaskedAudioPrepare().collate(items)["audio"]
    assert not torch.equal(model(audio).tokens, model(audio).tokens)
    model.eval()
    assert torch.equal(model(audio).tokens, model(audio).tokens)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "settings",
    [{}, BASE, LARGE, {"mel_bands": 40, "kernels": (400, 3, 3), "strides": (160, 2, 2)}],
    ids=["rotary", "base", "large", "mel"],
)
def test_weights_of_another_precision_take_a_recording_as_it_is(recording, settings, dtype):
    """``trainer.precision`` turns weights alone where held-out samples are measured."""
    model = encoder(**settings)
    prepare = AudioPrepare(**{name: settings[name] for name in ("kernels", "strides") if name in settings})
    inputs = prepare.collate([prepare(recording(samples=n), generator(n), True) for n in LENGTHS])
    expected = model(inputs).tokens
    found = model.to(dtype)(inputs).tokens
    assert found.dtype == dtype
    assert (found.float() - expected).norm() < 0.05 * expected.norm()
