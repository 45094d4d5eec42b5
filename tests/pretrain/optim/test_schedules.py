import math

import pytest

from data.errors import InputError
from pretrain.optim.schedules import Constant, Cosine, InverseSqrt, Linear, WarmupStableDecay

EVERY = [Constant, Cosine, Linear, InverseSqrt, WarmupStableDecay]


@pytest.mark.parametrize("kind", EVERY)
def test_the_warm_up_is_a_line_to_one_in_steps_or_samples(kind):
    schedule = kind(100, 10)
    assert [schedule(n) for n in range(10)] == [(n + 1) / 10 for n in range(10)]
    in_samples = kind(100, 50, warmup_samples=601, samples_a_step=64)  # 9.4 steps, and warmup_steps does not count
    assert [in_samples(n) for n in range(100)] == [schedule(n) for n in range(100)]
    assert all(0 <= schedule(n) <= 1 for n in range(300))
    assert kind(100, 0)(0) == 1.0


def test_cosine_and_constant_are_as_they_were():
    assert [Constant(9, 3)(n) for n in (0, 2, 3, 8)] == [1 / 3, 1.0, 1.0, 1.0]
    cosine = Cosine(100, 20, 0.1)
    assert cosine(60) == pytest.approx(0.1 + 0.9 * 0.5)
    assert cosine(100) == cosine(500) == pytest.approx(0.1)


def test_linear():
    schedule = Linear(110, 10, min_factor=0.2)
    assert [schedule(n) for n in (10, 60, 85, 110, 400)] == pytest.approx([1.0, 0.6, 0.4, 0.2, 0.2])


def test_inverse_square_root():
    schedule = InverseSqrt(1000, 10)
    assert schedule(9) == 1.0
    for step in (10, 39, 250):
        assert schedule(step) == pytest.approx(math.sqrt(10 / (step + 1)))


def test_warmup_stable_decay():
    schedule = WarmupStableDecay(1000, 10, decay_share=0.2, min_factor=0.1)
    assert {schedule(n) for n in range(10, 801)} == {1.0}
    assert [schedule(n) for n in (850, 900, 1000)] == pytest.approx([0.775, 0.55, 0.1])
    counted = WarmupStableDecay(1000, 10, decay_samples=6393, samples_a_step=32, min_factor=0.1)  # 200 steps
    assert [counted(n) for n in range(1000)] == [schedule(n) for n in range(1000)]
    root = WarmupStableDecay(1000, 10, decay_share=0.2, shape="sqrt")
    assert root(850) == pytest.approx(0.5)
    # The stable part does not know where the run ends.
    assert [schedule(n) for n in range(800)] == [WarmupStableDecay(5000, 10, decay_share=0.2)(n) for n in range(800)]


def test_wrong_settings_are_named():
    for make, message in (
        (lambda: WarmupStableDecay(10, decay_share=1.5), "decay_share=1.5"),
        (lambda: WarmupStableDecay(10, decay_samples=-1), "decay_samples=-1 is no whole number"),
        (lambda: WarmupStableDecay(10, shape="cubic"), "shape 'cubic' is not there"),
        (lambda: Linear(10, warmup_samples=-1), "warmup_samples=-1"),
        (lambda: Linear(10, -1), "warmup_steps=-1"),
        (lambda: Linear(10, 0.1), "warmup_steps=0.1 is no whole number"),  # a share elsewhere; here a rate of ten times
        (lambda: Linear(10, None), "warmup_steps=None"),
        (lambda: Cosine(10, warmup_samples=12.5), "warmup_samples=12.5"),
        (lambda: Cosine(10, min_factor=-1), "min_factor=-1 is no number"),
        (lambda: WarmupStableDecay(10, min_factor=None), "min_factor=None"),
        (lambda: Linear(10, min_factor="low"), "min_factor='low'"),
    ):
        with pytest.raises(InputError, match=message):
            make()
