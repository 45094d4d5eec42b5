"""Recordings that are opened before their turn."""

import gc
import weakref

import numpy as np
import pytest

from data.errors import SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.audio.prepare import AudioPrepare
from modalities.audio.views import AudioView
from modalities.views import TwoViews


@pytest.mark.parametrize("extension", ["flac", "wav", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (22050, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_the_same_clip(recording, extension, rate, channels, training):
    prepare = AudioPrepare(max_seconds=0.5)
    sample = recording(samples=rate, rate=rate, channels=channels, extension=extension)
    wanted = prepare(sample, generator(1), training)["wave"]
    prepare.foresee(sample)
    assert sample.ready
    assert np.array_equal(prepare(sample, generator(1), training)["wave"], wanted)
    assert not sample.ready


def test_two_views_of_one_recording(recording):
    views, sample = TwoViews(a=AudioView(max_seconds=0.5), b=AudioView(max_seconds=0.5)), recording(samples=16000)
    wanted = views(sample, generator(1), True)
    views.foresee(sample)
    assert len(sample.ready) == 2
    found = views(sample, generator(1), True)
    assert all(np.array_equal(found[side]["wave"], wanted[side]["wave"]) for side in "ab")
    assert not np.array_equal(found["a"]["wave"], found["b"]["wave"])


@pytest.mark.parametrize(
    "members", [{}, {"txt": b"no sound"}, {"flac": b""}, {"wav": b"RIFF"}, {"flac": bytes(1000)}, {"mp3": b"\xff" * 99}]
)
def test_what_is_wrong_with_a_recording_is_said_in_its_turn(members):
    prepare, sample = AudioPrepare(), Sample("shard.tar", "key", members)
    reasons = []
    for foreseen in (False, True):
        if foreseen:
            prepare.foresee(sample)
        with pytest.raises(SampleError) as error:
            prepare(sample, generator(0), True)
        reasons.append((str(error.value), error.value.kind, error.value.member))
    assert reasons[0] == reasons[1]
    assert not sample.ready


def test_a_recording_that_breaks_off_and_one_that_is_too_large(recording):
    whole = recording(samples=16000)
    cut = Sample("shard.tar", "key", {"flac": whole.members["flac"][:3000]})
    for prepare, sample, kind in (
        (AudioPrepare(), cut, "undecodable"),
        (AudioPrepare(max_bytes=99), whole, "too_large"),
    ):
        prepare.foresee(sample)
        with pytest.raises(SampleError) as error:
            prepare(sample, generator(0), True)
        assert error.value.kind == kind


def test_what_is_never_made_goes_with_its_sample(recording):
    prepare, sample = AudioPrepare(), recording(samples=16000)
    prepare.foresee(sample)
    [opened] = map(weakref.ref, sample.ready.values())
    assert opened() is not None
    del sample
    gc.collect()
    assert opened() is None
