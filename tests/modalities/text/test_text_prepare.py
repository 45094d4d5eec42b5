import json

import pytest

from data.errors import InputError, SampleError
from data.sample import Sample
from data.seeds import generator
from modalities.text.causal_lm import CausalText
from modalities.text.masked_lm import MaskedText
from modalities.text.member import TextMember
from modalities.text.prepare import TextPrepare

RECORD = {"caption": " a red circle ", "a": {"b": ["one", "two", {"c": "three"}]}, "n": 5, "empty": " ", "none": None}


def member(raw, name="json"):
    return Sample("s.tar", "k", {name: raw if isinstance(raw, bytes) else json.dumps(raw).encode()})


def read(field, raw=RECORD, name="json", seed=0, training=True):
    return TextMember(name, field).read(member(raw, name), generator(seed), training)


@pytest.mark.parametrize(
    ("field", "text"), [("caption", "a red circle"), ("a.b.0", "one"), ("a.b.1", "two"), ("a.b.2.c", "three")]
)
def test_fields_of_json(field, text):
    assert read(field) == text


def test_json_may_be_the_text_itself():
    assert read(None, "just text") == "just text"
    assert read(None, "just text", "meta.json") == "just text"


@pytest.mark.parametrize(
    ("field", "raw", "kind", "message"),
    [
        ("title", RECORD, "missing", "member json has no field title; it has: a, caption, empty, n, none"),
        ("a.b.3", RECORD, "missing", "member json has no field a.b.3; it has: a list of 3"),
        ("caption.x", RECORD, "missing", "member json has no field caption.x; it has: str"),
        ("n", RECORD, "undecodable", "member json, field n is int, not text"),
        ("none", RECORD, "undecodable", "member json, field none is null, not text"),
        ("a.b", RECORD, "undecodable", "member json, field a.b is list, not text"),
        ("empty", RECORD, "empty", "member json, field empty is empty"),
        ("caption", b"{'no': 'JSON'}", "undecodable", "member json is no JSON: Expecting property name"),
        ("caption", b"[" * 100_000, "undecodable", "member json is no JSON"),
        ("caption", b"\xff{}", "not_utf8", "member json is not UTF-8"),
        ("caption", b" ", "empty", "member json is empty"),
    ],
)
def test_what_is_no_text_is_named(field, raw, kind, message):
    with pytest.raises(SampleError) as error:
        read(field, raw)
    assert str(error.value).startswith(message)
    assert (error.value.kind, error.value.member) == (kind, "json")


def test_one_of_several_captions_is_drawn_by_the_samples_own_generator():
    raw = {"captions": ["one", "two", "three"]}
    drawn = [read("captions", raw, seed=seed) for seed in range(30)]
    assert set(drawn) == {"one", "two", "three"}
    assert drawn == [read("captions", raw, seed=seed) for seed in range(30)]
    assert {read("captions", raw, seed=seed, training=False) for seed in range(9)} == {"one"}


@pytest.mark.parametrize("name", ["jsonl", "ndjson"])
def test_a_line_of_json_lines_is_drawn(name):
    raw = b"\n".join(json.dumps({"text": f"document {n}"}).encode() + b"\n" for n in range(4))
    assert {read("text", raw, name, seed) for seed in range(30)} == {f"document {n}" for n in range(4)}
    assert read("text", raw, name, training=False) == "document 0"
    with pytest.raises(SampleError, match=f"member {name} is empty"):
        read("text", b"\n\n", name)


def test_a_field_needs_json():
    with pytest.raises(InputError, match="field=caption needs a JSON member, but member=txt is text"):
        TextMember("txt", "caption")


def text(words, name="txt"):
    return Sample("s.tar", "k", {name: " ".join(["red"] * words).encode()})


def refused(prepare, sample):
    with pytest.raises(SampleError) as error:
        prepare(sample, generator(0), True)
    return error.value.kind, str(error.value)


@pytest.mark.parametrize("kind", [TextPrepare, MaskedText, CausalText])
def test_limits(tokenizer_path, kind):
    prepare = kind(tokenizer_path, 12, min_tokens=6, too_long="refuse")  # the word is three tokens
    prepare(text(2), generator(0), True)
    prepare(text(3), generator(0), True)
    assert refused(prepare, text(1)) == ("too_short", "text of 5 tokens is shorter than min_tokens=6")
    assert refused(prepare, text(4)) == ("too_long", "text of 14 tokens exceeds max_tokens=12")
    many = kind(tokenizer_path, 12, max_chars=20, too_long="refuse")
    assert refused(many, text(6)) == ("too_long", "text of 23 characters exceeds max_chars=20")
    assert refused(kind(tokenizer_path, 12, max_bytes=10), text(3))[0] == "too_large"
    assert refused(kind(tokenizer_path, 12), Sample("s", "k", {"cls": b"3"}))[0] == "missing"
    assert refused(kind(tokenizer_path, 12), Sample("s", "k", {"txt": b"\xff"}))[0] == "not_utf8"


def test_a_long_text_is_cropped_before_it_is_tokenized(tokenizer_path):
    prepare = TextPrepare(tokenizer_path, 40, max_chars=19)
    sample = Sample("s.tar", "k", {"txt": b"red blue green circle square star " * 100_000})
    windows = {tuple(prepare(sample, generator(seed), True)["tokens"].tolist()) for seed in range(10)}
    assert len(windows) > 5
    assert max(map(len, windows)) <= 21
    assert (
        prepare.tokenizer.encode("red blue green circ") == prepare(sample, generator(1), False)["tokens"].tolist()[1:-1]
    )


def test_settings_are_checked(tokenizer_path):
    for options, message in [
        ({"min_tokens": 13}, "min_tokens=13 is not between 3 and max_tokens=12"),
        ({"too_long": "cut"}, "too_long 'cut' is not there; choices: crop, refuse"),
        ({"max_chars": 0}, "max_chars=0 is not 1 or more"),
    ]:
        with pytest.raises(InputError, match=message):
            TextPrepare(tokenizer_path, 12, **options)
