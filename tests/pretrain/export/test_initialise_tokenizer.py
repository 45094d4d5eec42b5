"""The tokenizer of a folder that a model begins with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from data.errors import InputError
from modalities.text.tokenizer import SPECIAL
from pretrain.cli import main
from tests.conftest import sentence
from tests.pretrain.export.families import OVERRIDES, published, saved
from tests.pretrain.export.incoming import FILE, begun, exported


def test_another_tokenizer_is_refused(tmp_path, tokenizer_path, transformers, said):
    folder = tmp_path / "theirs"
    saved(transformers, "bert", 320, tokenizer_path, folder)
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match=r"use data.tokenizer=.*theirs/tokenizer.json"):
        begun(tmp_path, tokenizer_path, "bert", folder)
    (folder / "tokenizer.json").unlink()
    begun(tmp_path, tokenizer_path, "bert", folder)
    assert "has no tokenizer.json" in said.text


def word_pieces():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return made, trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(SPECIAL), show_progress=False)


def open_ended(*special):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": list(special), "initial_alphabet": alphabet, "show_progress": False}
    return made, trainers.BpeTrainer(vocab_size=300, **options)


def test_dropout_of_a_tokenizer_stays_here(tmp_path, tokenizer_path, transformers):
    """It is switched off in training, and so in what is written: the check compares tokens that would be drawn."""
    path = tmp_path / "tokenizer.json"
    whole = json.loads(Path(tokenizer_path).read_text())
    whole["model"]["dropout"] = 0.5
    path.write_text(json.dumps(whole))
    published(tmp_path / "run", path, OVERRIDES["bert"])
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/tokenizer.json").read_text())["model"]["dropout"] is None


def test_texts_that_begin_and_end_with_one_token_are_no_clip(tmp_path, capsys):
    """CLIPTextModel pools at the first end token: with GPT-2's vocabulary that is the start of every text."""
    tokenizer, trainer = open_ended("!", "#", "$", "<|endoftext|>")
    tokenizer.train_from_iterator((sentence(n) for n in range(100)), trainer)
    path = str(tmp_path / "tokenizer.json")
    tokenizer.save(path)
    published(tmp_path / "run", path, OVERRIDES["clip"])
    for arguments in ([], ["--encoder", "text"]):
        assert main(["export", str(tmp_path / "run"), "--no-check", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "the tokenizer has one token for start and end (as GPT-2's)" in said
    assert main(["export", str(tmp_path / "run"), "--no-check", "--encoder", "image"]) == 0


@pytest.mark.parametrize(
    ("family", "made", "start"),
    [
        ("bert", word_pieces(), "[CLS]"),
        ("gpt2", open_ended("<|endoftext|>"), "<|endoftext|>"),
        ("clip", open_ended("!", "<|startoftext|>", "#", "<|endoftext|>"), "<|startoftext|>"),
    ],
)
def test_tokenizers_of_public_models(tmp_path, transformers, family, made, start, said):
    """The folder's own tokenizer feeds the run, and comes out with it."""
    tokenizer, trainer = made
    tokenizer.train_from_iterator((sentence(n) for n in range(100)), trainer)
    (tmp_path / "theirs").mkdir()
    path = str(tmp_path / "theirs/tokenizer.json")
    tokenizer.save(path)
    saved(transformers, family, 320, path, tmp_path / "theirs")
    resolved, model = begun(tmp_path, path, family, tmp_path / "theirs")
    before, after = load_file(tmp_path / "theirs" / FILE), exported(tmp_path, resolved, model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = again("one two three")["input_ids"]
    assert ids[0] == tokenizer.token_to_id(start)
    batch = again(["one two three", "one"], padding=True)  # CLIP's and GPT-2's have no token for it, and take their end
    assert batch["input_ids"][0] == ids
    assert batch["attention_mask"][1] == [int(place < sum(batch["attention_mask"][1])) for place in range(len(ids))]
    assert again.pad_token == ("[PAD]" if family == "bert" else "<|endoftext|>")
    assert ids[1 : len(ids) if family == "gpt2" else -1] == tokenizer.encode("one two three").ids
