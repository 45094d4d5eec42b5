import math

import pytest

from pretrain.report.curve import POINTS, curve_of


def test_few_points_are_shown_as_they_are():
    curve = curve_of([(10, 1.0), (20, math.nan), (30, 3.0)])
    assert (curve.steps, curve.values, curve.smooth) == ([10, 30], [1.0, 3.0], [])
    assert curve.last == 3.0
    assert curve_of([(1, math.inf)]) is None


def test_many_points_are_means_of_equal_spans():
    curve = curve_of((n, float(n)) for n in range(1, 24_001))
    assert len(curve.steps) == POINTS
    assert curve.steps[-1] == 24_000
    assert curve.values[0] == 50.5
    assert curve.values == sorted(curve.values)


def test_the_smooth_line_takes_noise_away_and_ends_where_the_curve_does():
    curve = curve_of((n, 5 + (-1) ** n) for n in range(240))
    assert max(curve.smooth) - min(curve.smooth) < 0.5
    assert curve.last == pytest.approx(5, abs=0.2)
    assert curve_of(((n, 1.0) for n in range(240)), noisy=False).smooth == []
