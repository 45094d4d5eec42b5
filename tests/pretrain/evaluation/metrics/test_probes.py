"""Probes against scikit-learn, on fixed embeddings."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from pretrain.evaluation.metrics.linear import few, fit, probe, scale_of, split
from pretrain.evaluation.metrics.neighbours import neighbours


def data(seed=0, rows=400, features=12, classes=5, noise=2.0):
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((classes, features))
    labels = draw.integers(0, classes, rows)
    scales = 10.0 ** draw.uniform(-3, 3, features)
    return (scales * (centres[labels] + noise * draw.standard_normal((rows, features))) + 5).astype(np.float32), labels


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_the_classifier_is_that_of_scikit_learn(strength):
    rows, labels = data()
    scaler = StandardScaler().fit(rows.astype(np.float64))
    scale = scale_of(rows)
    assert np.allclose(scale(rows), scaler.transform(rows.astype(np.float64)))
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(scale(rows), labels)
    ours = fit(scale(rows), labels, 5, strength)
    assert np.allclose(ours.weight, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max())
    test, _ = data(1)
    assert (ours.classes(scale(test)) == theirs.predict(scale(test))).all()


def test_the_strength_is_chosen_on_rows_set_aside_and_not_on_the_test():
    rows, labels = data(2, rows=60, features=50, noise=3.0)
    model, scale, best = probe(rows, labels, 5)
    aside = split(labels, 0.2, 0)
    own = scale_of(rows[~aside])
    right = {}
    for strength in 10.0 ** np.arange(-5, 4):
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10000).fit(own(rows[~aside]), labels[~aside])
        right[float(strength)] = theirs.score(own(rows[aside]), labels[aside])
    assert right[best] == max(right.values())
    assert min(right.values()) < max(right.values())
    assert best == min(strength for strength, value in right.items() if value == right[best])
    whole = LogisticRegression(C=best, tol=1e-10, max_iter=10000).fit(scale(rows), labels)
    assert (model.classes(scale(rows)) == whole.predict(scale(rows))).all()


def test_a_feature_that_never_changes_does_no_harm():
    rows, labels = data()
    rows[:, 0] = 7.0
    model, scale, _ = probe(rows, labels, 5)
    assert np.isfinite(model.weight).all()
    assert (scale(rows)[:, 0] == 0).all()


@pytest.mark.parametrize("k", [1, 20])
def test_neighbours_vote_as_in_scikit_learn(k):
    rows, labels = data(noise=1.5)
    test, _ = data(1)
    theirs = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distances: np.exp(-distances / 0.07)
    ).fit(rows.astype(np.float64), labels)
    assert (neighbours(rows, labels, test, k) == theirs.predict(test.astype(np.float64))).all()


def test_more_neighbours_than_rows():
    rows, labels = data(rows=7)
    assert len(neighbours(rows, labels, rows, 20)) == 7


def test_few_of_each_class_and_the_smaller_within_the_larger():
    labels = np.repeat([0, 1, 2], [30, 30, 3])
    drawn = {k: few(labels, k, seed=1) for k in (1, 4, 8)}
    assert np.bincount(labels[drawn[4]]).tolist() == [4, 4, 3]
    assert set(drawn[1]) <= set(drawn[4]) <= set(drawn[8])
    assert set(drawn[4]) != set(few(labels, 4, seed=2))


@pytest.mark.parametrize("counts", [[2, 1], [2, 1, 1, 1], [50, 2, 2, 2], [8, 2, 2, 2], [2, 2, 2, 2], [1, 1], [3, 1, 1]])
def test_small_classes_do_not_lead_to_the_strongest_penalty(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = 5 * np.eye(len(counts))[labels] + 0.01 * np.random.default_rng(0).standard_normal((len(labels), len(counts)))
    model, scale, _ = probe(rows, labels, len(counts))
    assert (model.classes(scale(rows)) == labels).all()


def test_no_row_of_a_class_of_one_is_set_aside():
    aside = split(np.array([0] * 10 + [1]), 0.2, 0)
    assert aside[:10].sum() == 2
    assert not aside[10]
