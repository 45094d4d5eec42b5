import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from pretrain.search.nearest import cosine, nearest


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    queries=st.integers(1, 4),
    k=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_nearest_are_those_of_a_full_sort_however_the_rows_are_cut(seed, rows, queries, k, cuts):
    draw = np.random.default_rng(seed)
    # Small whole numbers, so that many rows are equal or of the same direction, and some are zero.
    table = draw.integers(-2, 3, (rows, 3)).astype(np.float32)
    asked = draw.integers(-2, 3, (queries, 3)).astype(np.float32)
    similarity = cosine_similarity(asked.astype(np.float64), table.astype(np.float64)).astype(np.float32)
    order = np.argsort(-cosine(asked, table), axis=1, kind="stable")[:, :k]
    blocks = np.split(table, sorted(min(cut, rows) for cut in cuts))
    scores, numbers = nearest(asked, blocks, k)
    assert (numbers == order).all()
    assert np.allclose(scores, np.take_along_axis(similarity, numbers, 1), atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_right_angles_tie_however_the_rows_are_cut():
    table = np.array([[1, 2, 0], [-1, 2, -2], [-2, 1, -1], [-1, -2, -1], [0, 0, 0]], np.float32)
    asked = np.array([[-2, 1, -1]], np.float32)  # the first row's product is 1e-17 on its own, and 0 among others
    for cuts in ([], [1], [2], [1, 2, 3, 4]):
        scores, numbers = nearest(asked, np.split(table, cuts), 5)
        assert numbers.tolist() == [[2, 1, 3, 0, 4]]
        assert scores[0, 3:].tolist() == [0, 0]


def test_a_row_of_zeros_is_like_nothing():
    assert (cosine(np.ones((1, 4)), np.zeros((2, 4))) == 0).all()
