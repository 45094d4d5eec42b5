import io
import json
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from data.demo import picture, prose
from data.demo.build import build
from data.demo.scene import COLOURS, HELD_OUT, SHAPES, distinct, scene
from tests.data.shards import tars


def samples(root, prefix):
    """Key -> members of all the shards that begin with ``prefix``."""
    found = {}
    for path in sorted(root.glob(f"{prefix}-*.tar")):
        for key, members in tars.samples(path):
            assert key not in found
            found[key] = members
    return found


def pairs(attributes):
    """The (shape, colour) pairs that the scene with these JSON attributes shows."""
    things = [attributes, *([attributes["second"]] if attributes["second"] else [])]
    return {(thing["shape"], thing["colour"]) for thing in things}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root, calls = tmp_path_factory.mktemp("demo"), []
    build(root, lambda *call: calls.append(call), scenes_train=50, scenes_val=20)
    return root, calls


def test_two_builds_are_equal_to_the_byte(demo, tmp_path):
    root, _ = demo
    build(tmp_path, scenes_train=50, scenes_val=20)
    names = sorted(path.name for path in root.glob("*.tar"))
    assert names == sorted(path.name for path in tmp_path.glob("*.tar"))
    for name in names:
        assert (root / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_progress_ends_complete(demo):
    root, calls = demo
    last = {name: (done, total) for name, done, total in calls}
    assert set(last) == {"scenes-train", "scenes-val", "prose-train", "prose-val"}
    for name, (done, total) in last.items():
        assert done == total == len(samples(root, name))


@pytest.mark.parametrize(("split", "count"), [("train", 50), ("val", 20)])
def test_every_scene_decodes(demo, split, count):
    found = samples(demo[0], f"scenes-{split}")
    assert len(found) == count
    for members in found.values():
        assert set(members) == {"png", "txt", "flac", "json"}
        image = Image.open(io.BytesIO(members["png"]))
        assert (image.size, image.mode) == ((picture.SIDE, picture.SIDE), "RGB")
        assert np.asarray(image).max() > 150
        sound, rate = soundfile.read(io.BytesIO(members["flac"]), dtype="int16")
        assert rate == 16_000
        assert sound.ndim == 1
        assert 1.0 <= len(sound) / rate <= 1.3
        assert 3_000 < np.abs(sound).max() < 32_767
        attributes = json.loads(members["json"])
        assert attributes["split"] == split
        caption = members["txt"].decode()
        for shape, colour in pairs(attributes):
            assert re.search(rf"(small|large) {colour} {shape}(s|es)?\b", caption)


def test_held_out_pairs_are_seen_in_val_alone():
    for number in range(500):
        assert not pairs(scene(number, "train").attributes()) & HELD_OUT
    for one in distinct("val", 256):
        assert pairs(one.attributes()) & HELD_OUT


def test_every_shape_and_colour_stays_in_train():
    for shape in SHAPES:
        assert sum((shape, colour) not in HELD_OUT for colour in COLOURS) >= 6
    for colour in COLOURS:
        assert sum((shape, colour) not in HELD_OUT for shape in SHAPES) >= 6


def test_val_scenes_and_captions_are_distinct():
    scenes = list(distinct("val", 256))
    assert len({frozenset(one.placed()) for one in scenes}) == 256
    assert len({one.caption() for one in scenes}) == 256


def test_shapes_of_a_thing_do_not_touch():
    for number in range(300):
        one = scene(number, "train")
        pixels = np.asarray(Image.open(io.BytesIO(picture.png(one)))).astype(int)
        bright = pixels.max(axis=2) > 150
        assert _islands(bright) == sum(thing.count for thing, _ in one.placed()), one


def _islands(mask):
    """Number of 4-connected components of a (H, W) bool mask, without the cut-off tips of stars."""
    left, count = set(map(tuple, np.argwhere(mask).tolist())), 0
    while left:
        before = len(left)
        front = [left.pop()]
        while front:
            y, x = front.pop()
            for spot in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if spot in left:
                    left.remove(spot)
                    front.append(spot)
        count += before - len(left) > 4
    return count


def test_prose_is_split_by_content(demo):
    texts = {s: [m["txt"].decode() for m in samples(demo[0], f"prose-{s}").values()] for s in ("train", "val")}
    train, val = map(set, texts.values())
    assert train
    assert val
    assert not train & val
    assert len(train) + len(val) == sum(map(len, texts.values()))
    assert all(prose.split(text) == name for name, part in texts.items() for text in part)
    assert all(prose.SHORTEST <= len(text) <= prose.LONGEST for part in texts.values() for text in part)
    assert sum(map(len, train)) > 500_000
    assert 0.02 < len(val) / (len(train) + len(val)) < 0.09
