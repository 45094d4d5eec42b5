"""Folders that are damaged, of another model or want to run something: one line, and nothing of them is run."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.errors import InputError
from tests.pretrain.export.families import edit, saved
from tests.pretrain.export.incoming import FILE, begun


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_folder_is_run(tmp_path, tokenizer_path, transformers, said):
    folder, touched = tmp_path / "theirs", tmp_path / "touched"
    saved(transformers, "bert", 320, tokenizer_path, folder)
    edit(
        folder / "config.json",
        auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
        trust_remote_code=True,
    )
    (folder / "evil.py").write_text(f"open({str(touched)!r}, 'w')\n")
    begun(tmp_path, tokenizer_path, "bert", folder)
    assert "names code of its own (auto_map); none of it is run" in said.text
    (folder / FILE).unlink()
    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"bert.embeddings.word_embeddings.weight": Canary(touched)}, file)
    with pytest.raises(InputError, match="convert it to safetensors"):
        begun(tmp_path, tokenizer_path, "bert", folder)
    torch.save({"x": Canary(touched)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="convert it to safetensors"):
        begun(tmp_path, tokenizer_path, "bert", folder)
    assert not touched.exists()


def spoil_config(text):
    return lambda folder: (folder / "config.json").write_text(text)


def spoil_weights(folder):
    (folder / FILE).write_bytes(b"\xff" * 100)


def spoil_index(folder):
    (folder / FILE).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))


def without(folder):
    (folder / FILE).unlink()


def lacking(folder):
    state = load_file(folder / FILE)
    del state["bert.encoder.layer.1.attention.self.key.weight"]
    save_file(state, folder / FILE)


def other_shape(folder):
    state = load_file(folder / FILE)
    name = "bert.embeddings.word_embeddings.weight"
    save_file(state | {name: state[name][:100].contiguous()}, folder / FILE)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_config("{"), "cannot be read as JSON"),
        (spoil_config("[1]"), "is no JSON object"),
        (spoil_config("[" * 100_000), "cannot be read as JSON"),
        (spoil_config('{"model_type": "llama"}'), "model_type 'llama'"),
        (spoil_config('{"model_type": ["bert"]}'), "model_type"),
        (spoil_config('{"model_type": "bert"}'), "vocab_size is 30522 there and 320 here"),
        (spoil_config('{"model_type": "clip"}'), "encoders.text does not fit .*: norm=post"),
        (spoil_weights, "is no readable safetensors file"),
        (spoil_index, "which is not in the folder"),
        (without, "holds no weights"),
        (lacking, "lack|without its siblings|of another model"),
        (other_shape, r"\(100, 32\) there and \(320, 32\) in this model"),
    ],
)
def test_damaged_and_foreign_folders_are_one_line(tmp_path, tokenizer_path, transformers, spoil, message):
    saved(transformers, "bert", 320, tokenizer_path, tmp_path / "theirs")
    spoil(tmp_path / "theirs")
    with pytest.raises(InputError, match=message) as found:
        begun(tmp_path, tokenizer_path, "bert", tmp_path / "theirs")
    assert "\n" not in str(found.value)
