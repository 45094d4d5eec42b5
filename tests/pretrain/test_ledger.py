import json

import numpy as np
import pytest

from data.errors import InputError
from pretrain.ledger import packed, steps_range, unpacked


@pytest.mark.parametrize("most", [1, 2, 255, 256, 10**6, 2**40, 2**62])
@pytest.mark.parametrize("count", [0, 1, 7, 512])
def test_places_survive(most, count):
    rng = np.random.default_rng(count)
    places = np.stack([rng.integers(0, 3, count), rng.integers(0, most, count)], 1)
    row = json.loads(json.dumps({"step": 1, **packed(places)}))
    np.testing.assert_array_equal(unpacked(row), places)


def test_some_four_bytes_a_sample():
    rng = np.random.default_rng(0)
    places = np.stack([rng.integers(0, 2, 1024), rng.integers(0, 10**6, 1024)], 1)
    assert len(json.dumps(packed(places))) < 4.5 * 1024


@pytest.mark.parametrize("change", [{"places": "!"}, {"count": 3}, {"width": [1]}, {"places": None}, {"low": "a"}])
def test_a_row_that_is_none_is_named(change):
    row = {"step": 7, **packed(np.array([[0, 5], [0, 900]]))} | change
    with pytest.raises(InputError, match="row of step 7 is no record of samples"):
        unpacked(row)


def test_steps_range():
    assert steps_range("3:5") == (3, 5)
    assert steps_range("4") == (4, 4)
    assert steps_range(":5") == (1, 5)
    assert steps_range("3:")[0] == 3
    for wrong in ("5:3", "a", "", "1:2:3", "-1:2"):
        with pytest.raises(InputError, match="is not A:B"):
            steps_range(wrong)
