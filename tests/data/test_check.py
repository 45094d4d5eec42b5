import io
import json
import tarfile

import pytest

from data.check import as_json, check
from data.errors import InputError
from data.pattern import expand
from pretrain.verbs.shards import main


def tar(path, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 600
            archive.addfile(member, io.BytesIO(b"x" * 600))
    return str(path)


def test_check_counts_and_finds_damage(tmp_path):
    sound = tar(tmp_path / "a.tar", ["1.jpg", "1.cls", "2.jpg", "2.cls", "3.jpg"])
    cut = tar(tmp_path / "b.tar", ["1.jpg", "2.jpg"])
    (tmp_path / "b.tar").write_bytes((tmp_path / "b.tar").read_bytes()[:2048])
    empty = tar(tmp_path / "c.tar", [])
    found = as_json(list(check([sound, cut, empty])))
    assert found["samples"] == 4
    assert found["extensions"] == {"jpg": 4, "cls": 2}
    assert found["damaged"] == [cut, empty]
    first, second, third = found["shards"]
    assert first["lacking"] == {"cls": {"count": 1, "examples": ["3"]}}
    assert (second["samples"], second["damage"]) == (1, "breaks off inside the member at byte 1536")
    assert third["damage"] == "holds no samples"


def test_check_command(tmp_path, capsys):
    sound = tar(tmp_path / "a.tar", ["1.jpg"])
    assert main(["check", sound]) == 0
    assert "1 samples" in capsys.readouterr().out
    (tmp_path / "b.tar").write_bytes(b"no tar" * 100)
    assert main(["check", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["damaged"] == [str(tmp_path / "b.tar")]
    assert list(tmp_path.glob("*.idx")) == []


def test_expand(tmp_path, monkeypatch):
    for name in ("s-000000.tar", "s-000001.tar", "s-000002.tar", "t[1].tar", "u{1}.tar", "note.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("s-{000002..000001}.tar") == ["s-000002.tar", "s-000001.tar"]
    assert expand("s-*.tar") == ["s-000000.tar", "s-000001.tar", "s-000002.tar"]
    assert expand("t[1].tar::s-000001.tar") == ["t[1].tar", "s-000001.tar"]
    assert expand("u{1}.tar") == ["u{1}.tar"]
    assert expand(["s-000001.tar", "s-*.tar"]) == ["s-000001.tar", "s-000000.tar", "s-000002.tar"]
    assert len(expand(str(tmp_path))) == 5
    assert expand("~/s-000000.tar") == [str(tmp_path / "s-000000.tar")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("s-{0..1}.tar", r"'s-\{0..1\}.tar' \('s-0.tar'\) match nothing: '.' holds a.tar$"),
        ("no/deep/*.tar", "'no/deep/.*' match nothing: '.' holds a.tar"),
        ("empty", "'empty' holds nothing"),
        ("s3://bucket/a.tar", "not supported yet: local paths only"),
        ("pipe:cat a.tar", "not supported yet"),
        ("a.tar::", "empty part"),
        ("a{1..2.tar", "unbalanced braces"),
        ([], "no shard pattern"),
    ],
)
def test_expand_names_what_is_wrong(tmp_path, monkeypatch, pattern, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.tar").touch()
    with pytest.raises(InputError, match=message):
        expand(pattern)
