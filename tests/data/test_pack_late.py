"""Columns that begin late, odd tables and odd files: nothing of them is lost without a word."""

import resource

import pytest

from data.errors import InputError
from tests.data.packing import image, packed, reasons, table

MANY = 300  # more rows than are looked at before the first is packed


@pytest.mark.parametrize("named", [{}, {"label": "class"}])
def test_a_label_that_begins_late_is_taken(tmp_path, named):
    rows = [{"text": f"t{n}"} | ({"class": "a"} if n > MANY else {}) for n in range(MANY + 10)]
    report, found = packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out", **named)
    assert report.fields == {"text": "text", "label": "class"}
    assert [content["cls"] for content in found.values() if "cls" in content] == [b"a"] * 9
    assert reasons(report) == ({"no label": MANY + 1} if named else {})


def test_captions_that_begin_late_are_taken(tmp_path):
    for number in range(MANY):
        image(tmp_path / f"in/a{number:03d}.png")
    for name, suffix in (("x", "txt"), ("y", "TXT")):
        image(tmp_path / f"in/{name}.png")
        (tmp_path / f"in/{name}.{suffix}").write_text(f"caption {name}")
    report, found = packed(tmp_path / "in", tmp_path / "out")
    assert {key: content["txt"] for key, content in found.items() if "txt" in content} == {
        "x": b"caption x",
        "y": b"caption y",
    }
    assert report.fields["caption"] == "caption"
    assert not report.left_out
    assert packed(tmp_path / "in/*.png", tmp_path / "out2")[1].keys() == found.keys()
    assert packed(tmp_path / "in/y.png", tmp_path / "out3")[1]["y"]["txt"] == b"caption y"


def test_numbers_are_labels_and_what_json_has_no_word_for_is_left_out(tmp_path):
    values = [0.0, 1, 2.5, float("nan"), None, True]
    rows = [{"text": "x", "label": value, "score": value} for value in values]
    _, found = packed(table(tmp_path / "t.jsonl", rows), tmp_path / "out")
    assert [content.get("cls") for content in found.values()] == [b"0", b"1", b"2.5", None, None, b"True"]
    assert [content.get("json") for content in found.values()][2:4] == [b'{"score": 2.5}', None]


def test_what_a_table_cannot_mean_is_named(tmp_path):
    image(tmp_path / "a.png")
    odd = table(tmp_path / "t.jsonl", [{"image": "a.png", "captions": [{"raw": "a dog"}]}])
    with pytest.raises(InputError, match=r"holds a list of objects in t.jsonl:1"):
        packed(odd, tmp_path / "out", caption="captions")
    (tmp_path / "twice.csv").write_text("text,text,n\n,b,1\n")
    with pytest.raises(InputError, match="has several columns 'text'"):
        packed(tmp_path / "twice.csv", tmp_path / "out")
    (tmp_path / "wide.csv").write_text("text,n\nb,1\n", encoding="utf-16")
    with pytest.raises(InputError, match="is UTF-16; save it as UTF-8"):
        packed(tmp_path / "wide.csv", tmp_path / "out")
    for name, text, words in (
        ("a.csv", "text;label\nb;c\n", "between semicolons, where its name says commas"),
        ("b.csv", "text\tlabel\nb\tc\n", "between tabs, where its name says commas"),
        ("c.tsv", "text,label\nb,c\n", "between commas, where its name says tabs"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=words):
            packed(tmp_path / name, tmp_path / "out", text="text")
    many = table(tmp_path / "many.jsonl", [{"text": "x", "id": n} for n in range(100)])
    with pytest.raises(InputError, match="more than 64 sets of shards"):
        packed(many, tmp_path / "out", split="id")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_blank_lines_in_front_of_a_header_and_tables_that_are_gone(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("\n\ntext,n\nx,1\ny,1,2\n")
    (tmp_path / "in/b.csv").symlink_to("/nowhere.csv")
    report, found = packed(tmp_path / "in", tmp_path / "out")
    assert [content["txt"] for content in found.values()] == [b"x"]
    assert reasons(report) == {"row has another number of columns than the header": 1, "missing file": 1}
    assert report.left_out["row has another number of columns than the header"].examples == ["a.csv:5"]


def test_a_disk_that_takes_no_more_is_one_line(tmp_path, run_verb):
    rows = table(tmp_path / "t.jsonl", [{"text": "x" * 1000} for _ in range(200)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        code, said = run_verb("shards", "pack", str(rows), "--out", str(tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert "File too large; nothing was packed" in said
    assert said.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def run_verb(capsys):
    from pretrain.cli import main

    def run(*arguments):
        code = main(list(arguments))
        return code, capsys.readouterr().err

    return run
