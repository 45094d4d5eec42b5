import numpy as np
import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.audio.plugin import AudioPlugin
from modalities.audio.prepare import AudioPrepare
from modalities.audio.wav2vec2 import Wav2Vec2

torchaudio = pytest.importorskip("torchaudio")

D = 16
KERNELS, STRIDES = [10, 8, 4], [5, 4, 4]
FRONT = {"kernels": KERNELS, "strides": STRIDES}
LENGTHS = (1600, 960, 1600, 1203)


def network(mode="layer_norm"):
    torch.manual_seed(0)
    layers = [(8, kernel, stride) for kernel, stride in zip(KERNELS, STRIDES, strict=True)]
    rest = [False, D, 0.0, 16, 4, 1, 2, 0.0, 32, 0.0, 0.0, True, 0.0, None]
    return torchaudio.models.wav2vec2_model(mode, layers, *rest)


def clips(*lengths):
    rng = np.random.default_rng(0)
    items = [{"wave": rng.standard_normal(n).astype(np.float32)} for n in lengths]
    return items, AudioPrepare(min_seconds=0.01, **FRONT).collate(items)


@pytest.mark.parametrize("lengths", [None, "lengths"])
@pytest.mark.parametrize("samples", [LENGTHS, (1600, 1600)])
def test_clips_are_computed_as_one_by_one(lengths, samples):
    encoder = AudioPlugin(network(), D, lengths=lengths, **FRONT).eval()
    items, batch = clips(*samples)
    found = encoder(batch)
    assert found.layout.lengths == batch["layout"].lengths
    for item, features in zip(items, found.tokens.split(found.layout.lengths), strict=True):
        alone, _ = encoder.module(torch.from_numpy(item["wave"])[None])
        torch.testing.assert_close(features, alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [None, "lengths"])
def test_weights_of_another_precision_take_a_recording_as_it_is(lengths):
    encoder = AudioPlugin(network(), D, lengths=lengths, **FRONT).eval()
    _, batch = clips(*LENGTHS)
    expected = encoder(batch).tokens
    found = encoder.double()(batch).tokens
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-5)


def test_transformers_with_a_mask():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=D, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 3,
        conv_kernel=KERNELS, conv_stride=STRIDES, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, apply_spec_augment=False,
    )  # fmt: skip
    encoder = AudioPlugin(transformers.Wav2Vec2Model(config), D, mask="attention_mask", **FRONT).eval()
    items, batch = clips(*LENGTHS)
    found = encoder(batch).tokens.split(batch["layout"].lengths)
    alone = encoder.module(torch.from_numpy(items[1]["wave"])[None]).last_hidden_state
    torch.testing.assert_close(found[1], alone[0], rtol=1e-4, atol=1e-5)


class Spectrum(nn.Module):
    """One vector a clip, however long."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, D)

    def forward(self, wave, there=None):
        if there is not None:
            wave = wave * (there if there.ndim == 2 else torch.arange(wave.shape[1]) < there.unsqueeze(1))
        return self.layer(torch.fft.rfft(wave, 4000).abs()[:, :8])


def test_a_module_that_pools_gives_one_row_a_clip():
    encoder = AudioPlugin(Spectrum(), D)
    _, batch = clips(*LENGTHS)
    assert encoder(batch).tokens.shape == (4, D)
    assert "this one is a AudioPlugin" in Wav2Vec2(8, D).accept({"audio": encoder})


@pytest.mark.parametrize("name", ["lengths", "mask"])
def test_a_module_that_pools_takes_padding_and_a_clip_alone(name):
    encoder = AudioPlugin(Spectrum(), D, **{name: "there"}).eval()
    items, batch = clips(*LENGTHS)
    found = encoder(batch)
    assert found.layout.lengths == [1] * len(LENGTHS)
    for item, features in zip(items, found.tokens, strict=True):
        alone = encoder(AudioPrepare(min_seconds=0.01, **FRONT).collate([item]))
        assert alone.layout.lengths == [1]
        torch.testing.assert_close(alone.tokens[0], features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 8}, r"Wav2Vec2Model gives features of shape \(1, 9, 16\) for 1 sequences|of shape \(1, 10, 16\)"),
        ({"wave": "sound"}, "Wav2Vec2Model cannot be called as the adapter does: .*'sound'"),
        ({"lengths": "lengths", "mask": "mask"}, "lengths and mask say the same"),
        ({"lengths": "lengths", "strides": [5, 2, 4]}, "makes .* frames of .* samples, kernels and .*; give those"),
        ({"strides": [5, 2]}, "need strides as many"),
    ],
)
def test_what_does_not_fit_is_said_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        AudioPlugin(**{"module": network(), "width": D, **FRONT, **arguments})
