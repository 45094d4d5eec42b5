import numpy as np
import pytest

from data.errors import InputError
from modalities.audio.changes import CHANGES

RATE = 16000


def tone(hz, seconds=0.5):
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)
    return (wave / wave.std()).astype(np.float32)


def changed(name, wave, seed=0, **arguments):
    return CHANGES[name](**arguments)(wave, RATE, np.random.default_rng(seed))


@pytest.mark.parametrize("name", CHANGES)
def test_a_wave_stays_normalised_and_becomes_another(name):
    wave = tone(440) + 0.3 * tone(5000)
    wave = (wave / wave.std()).astype(np.float32)
    before = wave.copy()
    arguments = {"db": 6} if name == "gain" else {}
    found = changed(name, wave, **arguments)
    assert found.dtype == np.float32
    assert found.shape == wave.shape
    assert abs(found.mean()) < 1e-4
    assert found.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(found - wave).max() > 1e-3
    assert np.array_equal(wave, before)
    assert np.array_equal(changed(name, wave, **arguments), found)


def test_noise_has_its_distance():
    wave = tone(440)
    for snr in (0, 20):
        found = changed("noise", wave, snr_db=snr)
        share = float(np.dot(found, wave) / len(wave))  # of the tone in what is normalised: sqrt(s / (s + n))
        assert share == pytest.approx((1 + 10 ** (-snr / 10)) ** -0.5, abs=0.01)


def test_gain_cuts_off_what_is_too_loud_and_rounds_what_is_too_soft():
    wave = tone(440)
    assert len(np.unique(changed("gain", wave, db=-80).round(4))) <= 9  # peaks of three steps of 16 bits, both ways
    loud = changed("gain", wave, db=20)
    assert (np.abs(loud) > 0.99 * np.abs(loud).max()).mean() > 0.5  # nearly a square
    assert np.abs(changed("gain", wave, db=0) - wave).max() < 1e-3
    assert changed("gain", wave, db=-120) is None


def test_resample_takes_high_tones_away_and_keeps_low_ones():
    mixed = (tone(440) + tone(6000)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(changed("resample", mixed, rate=8000)))
    hz = np.fft.rfftfreq(len(mixed), 1 / RATE)
    low, high = spectrum[np.abs(hz - 440) < 20].max(), spectrum[np.abs(hz - 6000) < 20].max()
    assert high < 0.02 * low
    assert changed("resample", mixed, rate=16000) is None


def test_shift_moves_and_cut_silences():
    wave = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    shifts = [changed("shift", wave, seed=seed, seconds=0.1) for seed in range(6)]
    lags = [int(np.correlate(found, wave[2000:4000]).argmax()) - 2000 for found in shifts]
    assert len(set(lags)) > 3
    assert 0 < min(map(abs, lags)) <= max(map(abs, lags)) <= 1600
    assert changed("shift", wave[:3000], seconds=0.1) is None
    _, counts = np.unique(changed("cut", wave, share=0.25), return_counts=True)
    assert counts.max() >= 0.25 * len(wave)
    assert np.array_equal(changed("backwards", wave), wave[::-1])


@pytest.mark.parametrize(
    ("name", "key", "value"), [("shift", "seconds", 0), ("resample", "rate", 0), ("cut", "share", 1)]
)
def test_wrong_arguments_are_named(name, key, value):
    with pytest.raises(InputError, match=f"^{key}={value}"):
        CHANGES[name](**{key: value})
