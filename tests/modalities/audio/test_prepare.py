import io
import resource

import numpy as np
import pytest
import soundfile
import torch

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.audio.prepare import AudioPrepare, _resampler


def clip(prepare, sample, training=False, seed=0):
    return prepare(sample, generator(seed), training)["wave"]


def noise(samples, channels=1):
    return (0.1 * np.random.default_rng(0).standard_normal((samples, channels))).astype(np.float32)


@pytest.mark.parametrize("extension", ["flac", "wav", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_decodes_each_format(recording, extension, rate, channels):
    wave = clip(AudioPrepare(), recording(samples=rate, rate=rate, channels=channels, extension=extension))
    assert wave.dtype == np.float32
    assert abs(len(wave) - 16000) <= 2400  # mp3 pads to its own frames
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


@pytest.mark.parametrize("extension", ["flac", "wav", "ogg", "mp3"])
def test_any_window_of_each_format_can_be_read(recording, extension):
    sample = recording(samples=5 * 44100, rate=44100, extension=extension)
    prepare = AudioPrepare(max_seconds=0.5)
    for seed in range(20):
        assert len(clip(prepare, sample, True, seed)) == 8000
    beginning, whole = clip(prepare, sample), clip(AudioPrepare(), sample)[:8000]
    whole = (whole - whole.mean()) / whole.std()
    assert np.abs(beginning - whole)[:-50].max() < 0.05


def kind_of(prepare, sample):
    with pytest.raises(SampleError) as error:
        clip(prepare, sample)
    return error.value.kind, error.value.member


def test_kinds_and_members_are_named(recording):
    def of(extension, **options):
        return recording(extension=extension, **options)

    prepare = AudioPrepare(sample_rates=[16000, 48000], max_recording_s=60.0, max_seconds=10.0, max_bytes=10**6)
    whole = of("wav", samples=16000).members["wav"]
    assert kind_of(prepare, Sample("s", "k", {})) == ("missing", "flac|wav|ogg|mp3")
    assert kind_of(prepare, of("wav", samples=22050, rate=22050)) == ("wrong_rate", "wav")
    assert kind_of(prepare, of("flac", samples=100)) == ("too_short", "flac")
    assert kind_of(prepare, of("flac", wave=np.zeros(61 * 16000, np.float32))) == ("too_long", "flac")
    assert kind_of(prepare, of("wav", samples=10**6)) == ("too_large", "wav")
    assert kind_of(prepare, of("ogg", wave=np.zeros(16000, np.float32))) == ("silent", "ogg")
    assert kind_of(prepare, Sample("s", "k", {"wav": whole[:20]})) == ("undecodable", "wav")
    clip(prepare, of("wav", samples=48000, rate=48000))


def test_a_header_that_lies_about_the_length(recording):
    flac = bytearray(recording(samples=16000).members["flac"])
    true = int.from_bytes(flac[21:26], "big")  # 4 bits of the sample size, then 36 bits: how many samples

    def saying(samples):
        flac[21:26] = ((true >> 36 << 36) | samples).to_bytes(5, "big")
        return Sample("s", "k", {"flac": bytes(flac)})

    clip(AudioPrepare(), saying(16000))
    for seed in range(5):
        with pytest.raises(SampleError, match=r"cut off|psf_fseek\(\) failed"):
            clip(AudioPrepare(max_seconds=1.0), saying(16000 * 3600), True, seed)
    with pytest.raises(SampleError, match=r"audio declares 36000 s; max_recording_s=14400"):
        clip(AudioPrepare(), saying(16000 * 36000))
    wav = bytearray(recording(samples=16000, extension="wav").members["wav"])
    wav[40:44] = b"\xff\xff\xff\xff"
    assert len(clip(AudioPrepare(), Sample("s", "k", {"wav": bytes(wav)}))) == 16000  # libsndfile knows the file's end


def test_minutes_of_silence_is_looked_through_in_little_memory(recording):
    wave = np.zeros((200 * 48000, 2), dtype=np.int16)
    wave[190 * 48000 : 190 * 48000 + 4000] = (10000 * np.sin(np.arange(4000) / 7)).astype(np.int16)[:, None]
    sample = recording(wave=wave, rate=48000)
    del wave
    prepare = AudioPrepare(max_seconds=1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.abs(clip(prepare, sample, True, 0)).max() > 1
    assert np.array_equal(clip(prepare, sample, False, 0), clip(prepare, sample, False, 1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024  # all of it: 115 MB with the mean


def test_so_many_channels_that_a_window_fills_the_memory(recording):
    sample = recording(wave=np.zeros((160_000, 1000), dtype=np.int16), extension="wav")
    with pytest.raises(SampleError, match="a window of 1000 channels") as error:
        clip(AudioPrepare(), sample)
    assert error.value.kind == "bomb"


def test_constant_sound_is_silent(recording):
    with pytest.raises(SampleError, match="silent"):
        clip(AudioPrepare(), recording(wave=np.full(16000, 0.5, dtype=np.float32)))


@pytest.mark.parametrize(
    ("subtype", "extension"),
    [("PCM_16", "flac"), ("PCM_24", "flac"), ("PCM_U8", "wav"), ("FLOAT", "wav"), ("DOUBLE", "wav")],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("level", [0.0, 0.4])
def test_normalises_to_a_millionth(recording, subtype, extension, channels, level):
    wave = 0.4 * noise(70_000, channels=channels) + np.float32(level)
    sample = recording(wave=wave, extension=extension, subtype=subtype)
    found = clip(AudioPrepare(), sample)
    exact = soundfile.read(io.BytesIO(sample.members[extension]), dtype="float64", always_2d=True)[0].mean(1)
    loss = np.abs(exact).max() / exact.std()  # float32 has 6e-8 of the level
    exact = (exact - exact.mean()) / exact.std()
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-6 + 3e-7 * loss
    assert abs(found.astype(np.float64).std() - 1) < 1e-6


def test_many_channels_are_mixed(recording):
    both = np.stack([np.roll(noise(8000)[:, 0], n) for n in range(20)], 1)
    expected = (both.mean(1) - both.mean()) / both.mean(1).std()
    assert np.allclose(clip(AudioPrepare(), recording(wave=both, extension="wav")), expected, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 1.1e12])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_value_that_is_no_sound_is_found(recording, value, channels):
    wave = noise(20_000, channels=channels)
    wave[777] = value
    with pytest.raises(SampleError, match="values that are no sound"):
        clip(AudioPrepare(), recording(wave=wave, extension="wav", subtype="FLOAT"))


def test_unscaled_integers_are_sound(recording):
    wave = noise(20_000)
    loud = recording(wave=wave * np.float32(2**31), extension="wav", subtype="FLOAT")
    found = clip(AudioPrepare(), loud)
    assert np.abs(found - clip(AudioPrepare(), recording(wave=wave, extension="wav", subtype="FLOAT"))).max() < 1e-5


def test_what_was_read_before_does_not_move_the_window(recording):
    """A window at the beginning is read without seeking, others after it."""
    sample = recording(samples=48_000)
    prepare = AudioPrepare(max_seconds=1.0)
    whole = soundfile.read(io.BytesIO(sample.members["flac"]))[0]
    for seed in range(10):
        begin = int(generator(seed).integers(32_001))
        part = whole[begin : begin + 16_000]
        assert np.abs(clip(prepare, sample, True, seed) - (part - part.mean()) / part.std()).max() < 1e-5


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"min_seconds=0\.01 .* at least 0\.025"):
        AudioPrepare(min_seconds=0.01)
    with pytest.raises(InputError, match="min_seconds=2"):
        AudioPrepare(max_seconds=1.0, min_seconds=2.0)
    with pytest.raises(InputError, match=r"max_recording_s=5 is less than max_seconds=10"):
        AudioPrepare(max_seconds=10.0, max_recording_s=5.0)
    with pytest.raises(InputError, match="sample_rates is an empty list"):
        AudioPrepare(sample_rates=[])


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


def test_sound_in_the_sample_too_many_is_none(recording):
    wave = np.zeros(16001, np.float32)
    wave[-1] = 0.5
    with pytest.raises(SampleError, match="silent") as error:
        clip(AudioPrepare(max_seconds=1.00003), recording(wave=wave))
    assert (error.value.kind, error.value.member) == ("silent", "flac")
