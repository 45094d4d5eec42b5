"""Ranks and nearest classes, by hand."""

import numpy as np

from pretrain.evaluation.metrics import behaviour as metrics


def test_collapsed_and_broken_encoders_find_nothing():
    rows = np.ones((5, 3), np.float32)
    assert (metrics.ranks(rows, rows) == 5).all()
    broken = np.full((5, 3), np.nan, np.float32)
    assert (metrics.ranks(broken, rows) == 5).all()
    *_, whose = metrics.nearer(rows, np.eye(5, 3, dtype=np.float32), np.arange(5))
    assert (whose != np.arange(5)).all()
    assert metrics.nearer(rows, rows, np.arange(5))[2].tolist() == [-1] * 5


def test_a_sample_that_a_source_has_twice_is_no_rival_of_itself():
    rows = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    assert metrics.ranks(rows, rows).tolist() == [1, 1, 1, 1]
    nearer_to_the_third = np.array([[0.1, 0.9]], np.float32)
    assert metrics.ranks(nearer_to_the_third, rows).tolist() == [2]


def test_ranks_and_nearest_classes_by_hand():
    originals = np.array([[1, 0], [0, 1], [-1, 0.1]], np.float32)
    changed = np.array([[0.9, 0.1], [0.8, 0.2], [-1, 0.2]], np.float32)
    assert metrics.ranks(changed, originals).tolist() == [1, 2, 1]
    classes = metrics.nearest_class(changed, originals, ["a", "b", "b"])
    assert classes.tolist() == [0, 0, 1]
