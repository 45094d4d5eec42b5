import json

import pytest

from data.errors import InputError, SampleError
from data.label import TableLabel, digest_of, label_of
from data.sample import Sample


def sample(key="a/b", **members):
    return Sample("own-000000.tar", key, {name: text.encode() for name, text in members.items()})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [{"file": "a/b.flac", "kind": "one"}, {"file": "a/c.x.y", "kind": 2}, {"file": "d", "kind": " "}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no row\n")
    return str(path)


def test_a_member_and_a_field():
    assert label_of("cls")(sample(cls=" one\n")) == "one"
    assert label_of("json.a.b")(sample(json='{"a": {"b": 3}}')) == "3"
    with pytest.raises(SampleError, match="field a is empty"):
        label_of("json.a")(sample(json='{"a": " "}'))


def test_a_table_by_the_key_of_the_sample(table):
    read = label_of({"table": table, "key": "file", "field": "kind"})
    assert [read(sample(key)) for key in ("a/b", "a/c")] == ["one", "2"]
    assert read.member == ""
    with pytest.raises(SampleError, match=r"label table 'labels.jsonl' has no key 'e'"):
        read(sample("e"))
    with pytest.raises(SampleError, match="an empty class"):
        read(sample("d"))


def test_a_csv_table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("key,label\na/b,one\n")
    assert TableLabel(str(path))(sample()) == "one"


def test_a_table_that_changed_is_refused(table):
    options = {"table": table, "key": "file", "field": "kind", "sha256": digest_of(table)}
    label_of(options)
    with open(table, "a") as file:
        file.write('{"file": "e", "kind": "three"}\n')
    with pytest.raises(InputError, match="is not the one that the run began with"):
        label_of(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "nowhere.jsonl"}, "label table 'nowhere.jsonl' is no file of jsonl, csv, tsv"),
        ({"table": "{table}"}, "has no column 'key' in labels.jsonl:1; choices: file, kind"),
        ({"table": "{table}", "key": "file", "field": "kimd"}, "has no column 'kimd' .* did you mean 'kind'"),
        ({"tables": "a"}, "label takes table, key, field, sha256 of a table, got tables"),
        ({}, "got nothing"),
        ("x.y", "label 'x.y' is neither a member"),
    ],
)
def test_what_is_wrong_is_said(table, options, message):
    if isinstance(options, dict):
        options = {name: value.format(table=table) for name, value in options.items()}
    with pytest.raises(InputError, match=message):
        label_of(options)


def test_no_value_is_no_class_and_an_object_is_none_either(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"key": "a", "label": null}\n{"key": "b", "label": "x"}\n')
    with pytest.raises(SampleError, match="an empty class"):
        TableLabel(str(path))(sample("a"))
    path.write_text('{"key": "a", "label": {"x": 1}}\n')
    with pytest.raises(InputError, match=r"'label' in labels.jsonl:1 is no text and no number"):
        TableLabel(str(path))


def test_two_classes_for_one_key(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("key,label\na,one\na.x,two\n")
    with pytest.raises(InputError, match="gives 'a' two classes: one and two"):
        TableLabel(str(path))
