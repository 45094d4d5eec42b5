import numpy as np
import pytest
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.audio.prepare import AudioPrepare, _resampler


def clip(prepare, sample, training=False, seed=0):
    return prepare(sample, generator(seed), training)["wave"]


@pytest.mark.parametrize("extension", ["flac", "wav", "ogg", "mp3"])
def test_decodes_each_format(recording, extension):
    wave = clip(AudioPrepare(), recording(samples=16000, extension=extension))
    assert wave.dtype == np.float32
    assert abs(len(wave) - 16000) <= 1200  # mp3 pads to its own frames
    assert abs(wave.mean()) < 1e-5
    assert abs(wave.std() - 1) < 1e-4


def test_one_channel_is_the_mean_of_all(recording):
    both = np.stack([np.sin(np.arange(8000) / 9), np.cos(np.arange(8000) / 5)], 1).astype(np.float32) / 2
    mean = both.mean(1)
    expected = (mean - mean.mean()) / mean.std()
    assert np.allclose(clip(AudioPrepare(), recording(wave=both)), expected, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 96000])
def test_resamples_to_the_same_tone(recording, rate):
    wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) / 2
    found = clip(AudioPrepare(), recording(wave=wave, rate=rate))
    expected = np.sqrt(2) * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(found) == 16000
    assert np.abs(found - expected)[200:-200].max() < 0.02


@pytest.mark.parametrize("rate", [22051, 44101, 15999])
def test_rates_that_need_gigabytes_of_filter_are_the_samples_fault(recording, rate):
    with pytest.raises(SampleError, match=f"{rate} Hz cannot be resampled to 16000 Hz"):
        clip(AudioPrepare(), recording(samples=rate, rate=rate))


def test_as_many_filters_as_rates_are_not_kept():
    assert _resampler.cache_info().maxsize == 8


@pytest.mark.parametrize("rate", [16000, 44100])
def test_crops_at_random_only_in_training(recording, rate):
    sample = recording(samples=4 * rate, rate=rate)
    prepare = AudioPrepare(max_seconds=1.0)
    crops = [clip(prepare, sample, True, seed) for seed in (1, 1, 2)]
    assert {len(crop) for crop in crops} == {16000}
    assert np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])
    held_out = [clip(prepare, sample, False, seed) for seed in (1, 2)]
    assert np.array_equal(*held_out)


@pytest.mark.parametrize("extension", ["flac", "wav"])
def test_crop_is_a_window_of_the_recording(recording, extension):
    ramp = np.linspace(-0.9, 0.9, 64000, dtype=np.float32)
    found = clip(AudioPrepare(max_seconds=1.0), recording(wave=ramp, extension=extension), True, 5)
    assert np.allclose(found, np.linspace(-1, 1, 16000) * 3**0.5, atol=1e-2)


def test_silent_window_moves_to_the_sound(recording):
    wave = np.zeros(160000, dtype=np.float32)
    wave[100000:104000] = 0.5 * np.sin(np.arange(4000) / 7)
    sample = recording(wave=wave)
    prepare = AudioPrepare(max_seconds=1.0)
    for seed in range(5):
        assert np.abs(clip(prepare, sample, True, seed)).max() > 1
    assert np.array_equal(clip(prepare, sample, False, 1), clip(prepare, sample, False, 2))


def test_bad_samples_are_named(recording):
    prepare = AudioPrepare()
    whole = recording(samples=16000).members["flac"]
    broken = {
        "cannot be decoded": Sample("s", "k", {"flac": b"no sound at all"}),
        "less than min_seconds": recording(samples=1000),
        "are silent": recording(wave=np.zeros(16000, dtype=np.float32)),
        "no audio member": Sample("s", "k", {"txt": b"words"}),
        "no sound: infinite": recording(wave=np.full(8000, np.nan, np.float32), extension="wav", subtype="FLOAT"),
    }
    for reason, sample in broken.items():
        with pytest.raises(SampleError, match=reason):
            clip(prepare, sample)
    with pytest.raises(SampleError, match=r"cannot be decoded|cut off"):
        clip(prepare, Sample("s", "k", {"flac": whole[: len(whole) // 2]}))


def test_constant_sound_is_silent(recording):
    with pytest.raises(SampleError, match="silent"):
        clip(AudioPrepare(), recording(wave=np.full(16000, 0.5, dtype=np.float32)))


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"min_seconds=0\.01 .* at least 0\.025"):
        AudioPrepare(min_seconds=0.01)
    with pytest.raises(InputError, match="min_seconds=2"):
        AudioPrepare(max_seconds=1.0, min_seconds=2.0)


def test_collate_lays_clips_on_the_grid(recording):
    prepare = AudioPrepare()
    lengths = [5000, 6400, 4999, 4801]
    items = [prepare(recording(samples=n), generator(n), False) for n in lengths]
    batch = prepare.collate(items)
    assert batch["samples"] == lengths
    assert batch["size"] == 4
    assert len(batch["wave"]) % 320 == 0
    assert batch["layout"].lengths == [(n - 400) // 320 + 1 for n in lengths]
    begin = 0
    for item, rows in zip(items, batch["rows"].split(batch["layout"].lengths), strict=True):
        wave = item["wave"]
        assert np.array_equal(batch["wave"][begin : begin + len(wave)], wave)
        assert rows.tolist() == list(range(begin // 320, begin // 320 + len(rows)))
        end = begin + -(-len(wave) // 320) * 320
        assert not batch["wave"][begin + len(wave) : end].any()
        begin = end
    assert torch.equal(batch["wave"][begin:], torch.empty(0))
