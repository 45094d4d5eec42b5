import numpy as np
import pytest
from sklearn.decomposition import PCA

from pretrain.evaluation.metrics.projection import nearest, plane
from pretrain.vectors import unit


def test_the_plane_is_that_of_principal_components():
    rows = np.random.default_rng(0).standard_normal((40, 12)) * np.linspace(3, 0.1, 12)
    places, share = plane(rows)
    reference = PCA(2).fit(unit(rows))
    expected = reference.transform(unit(rows))
    assert np.abs(places) == pytest.approx(np.abs(expected))
    assert share == pytest.approx(reference.explained_variance_ratio_.sum())
    assert (np.take_along_axis(places, np.abs(places).argmax(0)[None], 0) > 0).all()


@pytest.mark.parametrize("rows", [np.ones((5, 3)), np.zeros((1, 4)), np.full((3, 3), np.nan), np.ones((4, 1))])
def test_any_rows_have_places(rows):
    places, share = plane(rows)
    assert places.shape == (len(rows), 2)
    assert np.isfinite(places).all()
    assert share == 0.0


def test_the_nearest_come_first_and_never_the_query_itself():
    rows = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    assert nearest(rows[:1], rows, 3).tolist() == [[0, 1, 2]]
    assert nearest(rows[:2], rows, 9, np.array([0, 1])).tolist() == [[1, 2, 3], [0, 2, 3]]
