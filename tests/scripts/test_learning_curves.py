import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def learning():
    sys.path.insert(0, str(ROOT / "scripts"))
    from learning import draw, race

    sys.path.remove(str(ROOT / "scripts"))
    return race, draw


def curve(steps, seconds, losses):
    return {
        "steps": steps,
        "samples": [16 * n for n in steps],
        "cpu_s": [n * seconds for n in steps],
        "wall_s": [2 * n * seconds for n in steps],
        "loss": losses,
    }


def test_losses_are_compared_where_both_sides_have_one(learning):
    race, _ = learning
    ours, theirs = curve([0, 10, 40], 1.0, [5.0, 4.0, 1.0]), curve([0, 10], 4.0, [5.0, 3.9])
    # Over the last fifth of the way: from 8 to 10 steps, of 4.2 to 4.0 and of 4.12 to 3.9.
    assert race.pair(ours, theirs, "samples") == {"at": 160, "ours": 4.1, "theirs": 4.01}
    assert race.pair(ours, theirs, "cpu_s") == {"at": 40.0, "ours": 1.4, "theirs": 4.01}
    assert race.at(ours, "cpu_s", 25.0) == pytest.approx(2.75)  # 3 at 20 s, 2.5 at 25 s


def test_measurements_become_rarer_but_stay_on_a_grid_that_sides_share(learning):
    race, _ = learning
    steps = [n for n in range(1, 1001) if race.is_measured(n)]
    assert steps[:3] == [5, 10, 15]
    assert len(steps) < 80
    assert {100, 200, 400, 800} <= set(steps)


def test_the_drawing_is_well_formed_and_inside_its_frame(learning):
    _, draw = learning
    ours, theirs = curve([0, 10, 40], 1.0, [5.0, 4.0, 1.0]), curve([0, 10], 4.0, [5.0, 3.9])
    root = ET.fromstring(draw.svg({"name": "a < b", "peer": "`Peer`, padded", "ours": ours, "theirs": theirs}))
    paths = [e.get("d") for e in root.iter() if e.get("class") in ("o", "p")]
    assert len(paths) == 4
    points = [tuple(map(float, p.split())) for d in paths for p in d.removeprefix("M").split("L")]
    assert all(0 <= x <= draw.WIDTH and 0 <= y <= draw.HEIGHT for x, y in points)


@pytest.mark.parametrize(("low", "high"), [(0, 6400), (4.1, 4.3), (6.5, 9.1), (0, 45.2)])
def test_ticks_are_round_and_inside(learning, low, high):
    _, draw = learning
    found = draw.ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low <= value <= high for value in found)
