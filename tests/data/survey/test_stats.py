import pickle

import pytest
import soundfile

from data.sample import Sample
from data.survey.stats import Stats, kind
from tests.conftest import png, wav


def sample(number, **members):
    return Sample("a.tar", f"k{number}", {name.replace("__", "."): content for name, content in members.items()})


def measured(samples, **options):
    found = Stats(**options)
    for one in samples:
        found.add(one)
    return found


SAMPLES = [
    sample(1, png=png(1), txt="größe".encode(), cls=b"3\n", json=b'{"language": "de"}'),
    sample(2, seg__png=png(2, 31), wav=wav(1, 8000), cls=b"3", json=b'{"lang": "en", "text": "x"}'),
    sample(3, png=b"no picture", wav=b"RIFF", txt=b"\xff\xfe", cls=b"7", json=b"[1, 2"),
    sample(4, json=b"[]", npy=b"12345"),
]


def test_kind_is_the_last_part_of_the_extension():
    names = ("png", "seg.png", "flac", "en.txt", "meta.json", "cls", "npy")
    assert [kind(name) for name in names] == ["image", "image", "audio", "text", "json", "label", ""]


def test_measures_of_every_kind():
    found = measured(SAMPLES, tokens=lambda text: len(text.split())).as_json()
    assert found["measured"] == 4
    assert found["members"]["npy"]["total"] == 5
    assert found["images"]["png"]["width"]["median"] == 24
    assert found["images"]["seg.png"]["height"]["count"] == 1
    assert found["audio"]["wav"]["seconds"]["total"] == 0.5
    assert found["audio"]["wav"]["sampling_rates"] == {"16000": 1}
    assert found["audio"]["wav"]["channels"] == {"1": 1}
    assert found["text"]["txt"]["characters"]["max"] == 5
    assert found["text"]["txt"]["tokens"]["total"] == 1
    assert found["labels"] == {"3": 2, "7": 1}
    assert found["languages"] == {"de": 1, "en": 1}
    assert sorted(entry["reason"].partition(" (")[0] for entry in found["unreadable"]) == [
        "json: no JSON",
        "png: no picture",
        "txt: not UTF-8",
        "wav: no recording",
    ]
    assert all(entry["examples"] == ["a.tar: k3"] for entry in found["unreadable"])


def test_another_language_field():
    assert measured([sample(1, json=b'{"iso": "fr", "lang": "en"}')], language_fields=("iso",)).languages == {"fr": 1}


def test_merged_parts_equal_the_whole_and_travel():
    parts = [pickle.loads(pickle.dumps(measured([one], tokens=len))) for one in SAMPLES]  # noqa: S301 - our own
    merged = Stats()
    for part in parts:
        merged.merge(part)
    assert merged.as_json() == measured(SAMPLES, tokens=len).as_json()


def test_labels_beyond_ten_thousand_are_counted_together():
    found = measured(sample(n, cls=str(n).encode()) for n in range(10_005))
    assert (len(found.labels), found.more_labels) == (10_000, 5)


@pytest.mark.parametrize(("format", "rate"), [("FLAC", 8000), ("OGG", 44100), ("MP3", 22050)])
def test_durations_are_read_from_the_header(format, rate):
    import io

    import numpy as np

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal((rate, 2)), rate, format=format)
    found = measured([sample(1, **{format.lower(): file.getvalue()})])
    sound = found.sounds[format.lower()]
    assert sound.seconds.total == pytest.approx(1, abs=0.1)
    assert (dict(sound.rates), dict(sound.channels)) == ({rate: 1}, {2: 1})
