"""What a person can look at of a prepared sample."""

import io

import numpy as np
import pytest
import soundfile

from data.sample import Sample
from modalities.audio.prepare import AudioPrepare
from modalities.audio.view import RATE, spectrogram
from modalities.image.prepare import ImagePrepare
from modalities.text.causal_lm import OpenText
from modalities.text.prepare import TextPrepare
from modalities.view import CHARACTERS, SIDE, shortened
from tests.conftest import png, wav


def prepared(prepare, **members):
    return prepare.view(prepare(Sample("s", "k", members), np.random.default_rng(0), False))


def test_a_picture_is_made_small():
    found = prepared(ImagePrepare(32), png=png(3))["picture"]
    assert found.shape == (SIDE, SIDE, 3)
    assert found.dtype == np.uint8
    assert found.std() > 1


@pytest.mark.parametrize("kind", [TextPrepare, OpenText])
def test_a_text_is_that_of_its_tokens_alone(kind, tokenizer_path):
    prepare = kind(str(tokenizer_path), 16)
    assert prepared(prepare, txt=b"the cat sat")["text"].strip() == "the cat sat"
    assert len(shortened("long " * 100)) == CHARACTERS


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_sound_is_drawn_with_high_tones_above_and_played_back(rate):
    time = np.arange(rate) / rate
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (200, rate / 4))
    heights = [spectrogram(wave, rate).sum(-1).mean(1).argmax() for wave in (low, high)]
    assert heights[0] > SIDE / 2 > heights[1]
    found = prepared(AudioPrepare(rate, 3.0), wav=wav(1))
    wave, played = soundfile.read(io.BytesIO(found["sound"]))
    assert played <= RATE
    assert 0.85 < np.abs(wave).max() < 0.95
    assert found["picture"].shape == (SIDE, SIDE, 3)
    assert spectrogram(np.zeros(10, np.float32), rate).shape == (SIDE, SIDE, 3)
