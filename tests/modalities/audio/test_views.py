import numpy as np
import pytest

from data.errors import InputError
from data.seeds import generator
from modalities.audio.prepare import AudioPrepare
from modalities.audio.views import AudioView
from tests.modalities.audio.conftest import sound

STILL = {"speed": (1, 1), "shift": 0.0, "filter_db": 0.0, "noise_db": None, "gap": 0.0}
RATE = 16_000


def viewed(wave, seed=0, **changes):
    return AudioView(**(STILL | changes)).changed(wave, generator(seed))


def tone(hertz=1000, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE).astype(np.float32) * np.float32(2**0.5)


def loudest(wave):
    """Hz at which a wave has most power."""
    return float(np.abs(np.fft.rfft(wave)).argmax() / len(wave) * RATE)


def test_a_view_is_its_positions_own_and_as_long_as_the_clip(recording):
    prepare = AudioView()
    one, same, other = (prepare(recording(samples=9000), generator(n), True)["wave"] for n in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.shape == (9000,)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()


def test_held_out_clips_and_those_of_no_change_stay_as_they_are(recording):
    sample = recording(samples=9000)
    plain = AudioPrepare()(sample, generator(0), True)["wave"]
    assert np.array_equal(AudioView()(sample, generator(0), False)["wave"], plain)
    assert np.allclose(AudioView(**STILL)(sample, generator(0), True)["wave"], plain, atol=1e-5)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_pitch(factor):
    assert loudest(viewed(tone(), speed=(factor, factor))) == pytest.approx(1000 * factor, abs=2)


def test_shift_moves_by_at_most_so_much():
    wave = np.zeros(RATE, np.float32)
    wave[8000] = 1
    places = [int(viewed(wave, n, shift=0.1).argmax()) for n in range(40)]
    assert 8000 - 1600 - 1 <= min(places) < 7000
    assert 9000 < max(places) <= 8000 + 1600 + 1


def test_a_filter_keeps_frequencies_and_changes_their_balance():
    wave = (tone(700) + tone(6000)).astype(np.float32)

    def balance(x):
        spectrum = np.abs(np.fft.rfft(x))
        return 20 * np.log10(spectrum[700] / spectrum[6000])

    found = [balance(viewed(wave, n, filter_db=6.0)) for n in range(200)]
    assert abs(balance(wave)) < 0.1
    assert 4 < np.std(found) < 12  # of two independent gains between knots


def test_noise_is_as_loud_as_asked():
    wave = tone()
    noise = viewed(wave, noise_db=(10, 10)) - wave
    assert 10 * np.log10(1 / noise.var()) == pytest.approx(10, abs=0.5)


def test_gap_is_silent():
    found = [float((viewed(sound(RATE)[:, 0], n, gap=0.5) == 0).mean()) for n in range(40)]
    assert max(found) < 0.51
    assert np.mean(found) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": (1.2, 0.8)}, "speed=.*slower one first"),
        ({"speed": (0, 1)}, "speed="),
        ({"noise_db": (40, 5)}, "noise_db="),
        ({"gap": 1.0}, "gap=1.0"),
        ({"shift": -1.0}, "shift=-1.0"),
        ({"filter_db": -1.0}, "filter_db=-1.0"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        AudioView(**changes)
