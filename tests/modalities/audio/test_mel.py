import math

import pytest
import torch
import torchaudio

from data.errors import InputError
from data.seeds import generator
from modalities.audio.encoder import AudioEncoder
from modalities.audio.mel import FLOOR, MelFrontend, bank
from modalities.audio.prepare import AudioPrepare

SHAPE = {"kernels": (400, 3, 3), "strides": (160, 2, 2)}


def test_bank_is_torchaudios_with_triangles_of_sum_1():
    theirs = torchaudio.functional.melscale_fbanks(201, 0.0, 8000.0, 40, 16_000)
    torch.testing.assert_close(bank(40, 400, 16_000), theirs / theirs.sum(0), rtol=1e-3, atol=1e-4)


def test_spectra_are_torchaudios():
    torch.manual_seed(0)
    wave = torch.randn(16_000)
    window = torch.hann_window(400)
    power = torchaudio.functional.spectrogram(wave, 0, window, 400, 160, 400, 2.0, False, center=False)
    expected = ((power.T / window.square().sum() @ bank(40, 400, 16_000) + FLOOR).log() + 4) / 4
    found = MelFrontend(40, 8, **SHAPE).spectra(wave)
    assert found.shape == (100, 40)
    torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-4, atol=1e-4)
    assert float(found[:98].mean()) == pytest.approx(1, abs=0.1)  # as it is scaled
    silent = (math.log(FLOOR) + 4) / 4
    assert torch.allclose(MelFrontend(40, 8, **SHAPE).spectra(torch.zeros(640)), torch.tensor(silent))


def test_clip_alone_equals_clip_among_others(recording):
    torch.manual_seed(0)
    model = AudioEncoder(channels=8, width=16, depth=2, heads=2, mel_bands=40, **SHAPE)
    prepare = AudioPrepare(**SHAPE)
    items = [prepare(recording(samples=n, seed=n), generator(n), True) for n in (8000, 5001, 6400)]
    tokens, layout = model(prepare.collate(items))
    assert layout.lengths == [(n - 1360) // 640 + 1 for n in (8000, 5001, 6400)]
    for item, mine in zip(items, tokens.split(layout.lengths), strict=True):
        assert torch.allclose(model(prepare.collate([item])).tokens, mine, atol=1e-5)
    tokens.square().sum().backward()
    assert all(p.grad is not None for p in model.frontend.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mel_bands": 40, "kernels": (400,), "strides": (160,)}, "a convolution needs one"),
        ({"mel_bands": 400, **SHAPE}, "mel_bands=400 are too fine"),
        ({"mel_bands": 40, "frontend_norm": "group", **SHAPE}, "frontend_norm"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        AudioEncoder(channels=8, width=16, depth=1, heads=2, **settings)
