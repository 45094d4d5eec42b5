import numpy as np
import pytest

from data.survey.spread import Spread


def spread(values):
    found = Spread()
    for value in values:
        found.add(value)
    return found


def test_small_sets_are_exact():
    found = spread([5, 1, 1, 3])
    assert found.as_json() == {
        "count": 4,
        "total": 10,
        "min": 1,
        "p5": 1,
        "median": 1,
        "p95": 5,
        "max": 5,
        "mean": 2.5,
    }
    assert found.counts() == {1: 2, 3: 1, 5: 1}
    assert Spread().as_json() == dict.fromkeys(found.as_json(), 0)


@pytest.mark.parametrize("values", [range(1, 60001), np.random.default_rng(0).lognormal(3, 2, 30000).tolist()])
def test_large_sets_keep_three_digits_and_exact_ends(values):
    values = list(values)
    found = spread(values)
    assert len(found.counts()) <= 10_000
    assert (found.count, found.least, found.greatest) == (len(values), min(values), max(values))
    assert found.total == pytest.approx(sum(values))
    for share in (0.05, 0.5, 0.95):
        exact = sorted(values)[int(share * len(values)) - 1]
        assert found.at(share) == pytest.approx(exact, rel=0.006)


def test_merging_equals_counting_at_once():
    values = np.random.default_rng(1).integers(0, 30000, 50000).tolist()
    merged = Spread()
    for part in np.array_split(values, 7):
        merged.merge(spread(part.tolist()))
    assert merged.as_json() == pytest.approx(spread(values).as_json(), rel=0.006)
    few = spread([2, 4])
    few.merge(Spread())
    few.merge(spread([1]))
    assert few.as_json() == spread([1, 2, 4]).as_json()
