import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from data.errors import InputError
from modalities.text.tokenizer import SPECIAL, TextTokenizer, train


def test_any_text_survives_a_round_trip(tokenizer_path):
    tokenizer = TextTokenizer(tokenizer_path)
    for text in ("red circle", "naïve Ωmega 漢字 🙂", "tabs\tand\nlines", "[MASK] is no word"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text


def test_special_tokens_come_first_and_training_is_deterministic(tmp_path):
    texts = ["one two three"] * 20 + ["red green blue"] * 10
    for name in ("a", "b"):
        train(texts, 280).save(str(tmp_path / name))
    a, b = TextTokenizer(str(tmp_path / "a")), TextTokenizer(str(tmp_path / "b"))
    assert a.digest == b.digest
    assert [a.number(token) for token in SPECIAL] == list(range(5))
    with pytest.raises(InputError, match=r"has no \[X\] token"):
        a.number("[X]")


def test_it_travels_as_its_path(tokenizer_path):
    tokenizer = TextTokenizer(tokenizer_path)
    before = tokenizer.encode("red")
    assert len(pickle.dumps(tokenizer)) < 500
    assert copy.deepcopy(tokenizer).encode("red") == before  # by the same protocol


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(InputError, match="at least 261"):
        train(["a"], 260)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no.json' does not exist; train one on the texts"):
        TextTokenizer(str(tmp_path / "no.json"))


TEXTS = [
    *(
        "red circle",
        " ",
        "",
        "naïve Ωmega 漢字 🙂",
        "e\u0301 and \u00e9",
        "tabs\tand\r\nlines",
        "[MASK] is [CLS] no word",
        "\0",
    ),
    "red blue green circle square star " * 2000,
    "x" * 20_000,
]


@pytest.mark.parametrize("form", ["plain", "truncating", "padding"])
def test_the_fast_form_gives_the_same_tokens(tokenizer_path, tmp_path, form):
    """A tokenizer.json from elsewhere (sentence-transformers) may truncate and pad; that is the prepare's to do."""
    saved, plain = (Tokenizer.from_file(tokenizer_path) for _ in range(2))
    if form == "truncating":
        saved.enable_truncation(5)
    elif form == "padding":
        saved.enable_padding(length=40, pad_id=0, pad_token=SPECIAL[0])
    saved.save(str(tmp_path / "t.json"))
    plain.encode_special_tokens = True
    tokenizer = TextTokenizer(str(tmp_path / "t.json"))
    for text in TEXTS:
        expected = plain.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text) == expected.ids
        assert tokenizer.located(text) == (expected.ids, expected.offsets)


def test_it_starts_no_threads(tokenizer_path):
    """Each worker would have as many as the machine has cores, for one text at a time."""
    code = (
        "import os, sys; from modalities.text.tokenizer import TextTokenizer; "
        "t = TextTokenizer(sys.argv[1]); before = len(os.listdir('/proc/self/task')); "
        "t.encode('red circle'); print(len(os.listdir('/proc/self/task')) - before)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", code, tokenizer_path], env=environment, capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


def test_ids_may_leave_some_out_and_a_text_is_the_same_tokens_at_each_call(tokenizer_path, tmp_path):
    """Files from elsewhere: an added token far behind, and BPE-dropout (Provilkov et al. 2020), which knows no seed."""
    saved = json.loads(Path(tokenizer_path).read_text())
    saved["added_tokens"].append({**saved["added_tokens"][-1], "id": 999, "content": "<extra>"})
    saved["model"]["vocab"]["<extra>"] = 999
    saved["model"]["dropout"] = 0.5
    (tmp_path / "t.json").write_text(json.dumps(saved))
    tokenizer, plain = TextTokenizer(str(tmp_path / "t.json")), TextTokenizer(tokenizer_path)
    assert tokenizer.size == 1000
    for text in TEXTS * 3:
        assert tokenizer.encode(text) == plain.encode(text)
