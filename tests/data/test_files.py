import numpy as np
import pytest

from data.errors import InputError, SampleError
from data.files import FileStream
from tests.data.packing import beyond_reach


@pytest.fixture
def folder(tmp_path):
    for name, content in {"b.TXT": b"two", "a/c.txt": b"one", "a/d.png": b"no text", "e.txt": b"three"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def samples(stream):
    return [stream.read(place) for place in stream.locate(np.arange(len(stream)))]


def test_files_of_a_folder_by_name_to_the_bottom(folder):
    stream = FileStream("files", [str(folder)], ["txt"])
    found = samples(stream)
    assert [(one.key, one.members) for one in found] == [
        ("a/c.txt", {"txt": b"one"}),
        ("b.TXT", {"txt": b"two"}),
        ("e.txt", {"txt": b"three"}),
    ]
    assert [stream.identity(place)[1] for place in stream.locate(np.arange(3))] == ["a/c.txt", "b.TXT", "e.txt"]


def test_files_named_one_by_one_stay_in_that_order(folder):
    stream = FileStream("files", [str(folder / "e.txt"), str(folder / "a/c.txt")], ["txt"])
    assert [one.key for one in samples(stream)] == ["e.txt", "c.txt"]


def test_links_to_nowhere_are_left_out_and_what_goes_meanwhile_is_a_bad_sample(folder):
    (folder / "link.txt").symlink_to("/nowhere.txt")
    stream = FileStream("files", [str(folder)], ["txt"])
    assert len(stream) == 3
    before = stream.fingerprint()
    (folder / "e.txt").unlink()
    assert stream.fingerprint() != before
    with pytest.raises(SampleError, match="cannot be read"):
        samples(stream)


def test_the_fingerprint_knows_names_and_sizes(folder):
    before = FileStream("files", [str(folder)], ["txt"]).fingerprint()
    assert FileStream("files", [str(folder)], ["txt"]).fingerprint() == before
    (folder / "e.txt").write_bytes(b"longer")
    assert FileStream("files", [str(folder)], ["txt"]).fingerprint() != before


def test_a_file_that_goes_is_a_bad_sample(folder):
    stream = FileStream("files", [str(folder)], ["txt"])
    (folder / "e.txt").unlink()
    with pytest.raises(SampleError, match="file cannot be read: No such file") as caught:
        samples(stream)
    assert caught.value.kind == "unreadable"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none", "'.*none' is no file and no folder"),
        ("a/d.png", "file '.*d.png' is of a kind not wanted here; choices: txt"),
    ],
)
def test_what_is_not_there_is_named(folder, place, message):
    with pytest.raises(InputError, match=message):
        FileStream("files", [str(folder / place)], ["txt"])


def test_a_folder_without_such_files(folder):
    with pytest.raises(InputError, match="holds no file of a kind wanted: flac, wav"):
        FileStream("files", [str(folder)], ["flac", "wav"])


def test_a_folder_that_cannot_be_listed_is_named(folder):
    beyond_reach(folder)
    with pytest.raises(InputError, match=r"folder '.*x' cannot be read: File name too long"):
        FileStream("files", [str(folder)], ["txt"])
