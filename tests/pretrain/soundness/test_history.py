import json

import numpy as np
import pytest

from pretrain.soundness.history import LAG, History


def filled(values, window=32, factor=10.0):
    history = History(["loss"], window, factor)
    for step, value in enumerate(values, 1):
        history.add(step, [value])
    return history


NOISE = (2.0 + 0.05 * np.random.default_rng(0).standard_normal(200)).tolist()


def test_nothing_is_judged_before_a_quarter_of_the_window_is_known():
    history = filled(NOISE[:20])
    assert history.bounds(8 + LAG - 1) is None
    assert history.bounds(8 + LAG) is not None


def test_bounds_are_those_of_the_normal_distribution():
    [bound] = filled(NOISE, window=128).bounds(200 + LAG)
    assert bound == pytest.approx(2.0 + 10 * 0.05, abs=0.1)


def test_a_step_is_judged_by_what_ended_two_steps_before_it():
    calm, late = filled(NOISE[:40]), filled([*NOISE[:40], 50.0, 60.0])
    assert late.bounds(42) == calm.bounds(42)


def test_spikes_do_not_move_the_bounds_until_they_are_half_of_the_window():
    for spikes, found in ((15, True), (20, False)):
        history = filled([*NOISE[:60], *[9.0 + n / 100 for n in range(spikes)]])
        [bound] = history.bounds(60 + spikes + LAG)
        assert (bound < 9) == found


def test_a_loss_that_stands_still_does_not_make_noise_a_spike():
    [bound] = filled([2.0] * 40).bounds(42)
    assert bound == pytest.approx(2.2)


def test_numbers_that_are_none_do_not_count():
    history = filled(NOISE[:40])
    history.add(41, [float("nan")])
    history.add(42, [float("inf")])
    assert history.bounds(44) == filled(NOISE[:40]).bounds(44)


def test_a_checkpoint_gives_the_same_bounds_bit_for_bit():
    straight, cut = filled(NOISE[:150]), filled(NOISE[:70])
    again = History(["loss"], 32, 10.0)
    again.restore(json.loads(json.dumps(cut.state())))
    for step, value in enumerate(NOISE[70:150], 71):
        again.add(step, [value])
    assert again.bounds(152) == straight.bounds(152)


def test_it_begins_anew_where_the_tasks_are_others():
    other = History(["a", "b"], 32, 10.0)
    other.restore(filled(NOISE[:70]).state())
    assert other.bounds(72) is None
    other.restore(None)
    assert other.bounds(72) is None
