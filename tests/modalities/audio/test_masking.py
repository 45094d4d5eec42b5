import numpy as np
import pytest

from data.errors import InputError, SampleError
from data.seeds import generator
from modalities.audio.masking import MaskedAudioPrepare, others, spans


def test_share_of_masked_frames_follows_the_paper():
    # Section 4.2: p = 0.065 and M = 10 mask about 49 % of all frames in spans of 14.7 frames (299 ms) on average.
    masks = [spans(750, 0.65, 10, generator("share", i)) for i in range(300)]
    assert abs(np.mean(masks) - 0.49) < 0.01
    runs = [np.diff(np.flatnonzero(np.diff(np.r_[False, mask, False])))[::2].mean() for mask in masks]
    assert abs(np.mean(runs) - 14.7) < 0.5


def test_frames_are_masked_alike_but_for_the_ends():
    share = np.mean([spans(100, 0.65, 10, generator("even", i)) for i in range(4000)], axis=0)
    assert np.ptp(share[9:-9]) < 0.08
    assert share[0] > 0
    assert share[-1] > 0


@pytest.mark.parametrize("frames", [3, 4, 5, 9, 10, 11, 12, 49])
@pytest.mark.parametrize("settings", [(0.65, 10), (1.0, 10), (0.05, 10), (1.0, 2), (0.01, 2)])
def test_at_least_two_and_never_all(frames, settings):
    for i in range(200):
        mask = spans(frames, *settings, generator(frames, i))
        assert 2 <= mask.sum() < frames


def test_negatives_are_the_others_alike():
    drawn = others(5, 20000, generator("negatives"))
    counts = np.stack([np.bincount(row, minlength=5) for row in drawn])
    assert not counts.diagonal().any()
    assert np.abs(counts[~np.eye(5, dtype=bool)] / 5000 - 1).max() < 0.06
    assert np.array_equal(others(2, 3, generator(0)), [[1, 1, 1], [0, 0, 0]])


def test_a_sample_depends_on_its_generator_alone(recording):
    prepare = MaskedAudioPrepare()
    sample = recording(samples=16000)
    one, same, other = (prepare(sample, generator("s", i), True) for i in (1, 1, 2))
    for name in one:
        assert np.array_equal(one[name], same[name])
    assert one["noise"] != other["noise"]
    assert not np.array_equal(one["masked"], other["masked"])
    held_out = prepare(sample, generator("s", 1), False)
    assert np.array_equal(one["masked"], held_out["masked"])  # nothing to crop here, and masking stays on


def test_collate_points_into_the_flat_run(recording):
    prepare = MaskedAudioPrepare(num_negatives=7)
    items = [prepare(recording(samples=n), generator(n), True) for n in (16000, 5000, 9999)]
    batch = prepare.collate(items)
    audio = batch["audio"]
    assert batch["size"] == 3
    assert audio["noise"].tolist() == [item["noise"] for item in items]
    assert audio["negatives"].shape == (len(audio["masked"]), 7)
    layout = audio["layout"]
    clip_of, frame_of = layout.sequence[audio["masked"]], layout.position[audio["masked"]]
    first = 0
    for i, item in enumerate(items):
        inside = clip_of == i
        assert np.array_equal(frame_of[inside], item["masked"])
        assert np.array_equal(audio["negatives"][inside] - first, item["negatives"])
        assert (clip_of[audio["negatives"][inside]] == i).all()
        first += len(item["masked"])
    assert audio["masks"].lengths == [len(item["masked"]) for item in items]


def test_settings_and_short_clips_are_refused(recording):
    for wrong in ({"mask_prob": 0.0}, {"mask_prob": 1.5}, {"mask_length": 1}, {"num_negatives": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}="):
            MaskedAudioPrepare(**wrong)
    with pytest.raises(SampleError, match="2 frames"):
        MaskedAudioPrepare(min_seconds=0.025)(recording(samples=800), generator(0), True)
