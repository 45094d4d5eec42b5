"""Encoders that are not named after their modality, and encoders that began with weights of elsewhere."""

import pytest
from safetensors.torch import save_file

from data.errors import InputError
from data.write import write
from pretrain import config
from pretrain.adapting.expand import expand
from pretrain.model import build_model
from pretrain.run import RunDirectory
from tests.conftest import wav
from tests.pretrain.adapting.small import LABELS, command, labelled
from tests.pretrain.export.families import ALONE, OVERRIDES, composed, save


def named(run_dir, tokenizer, family, *names, overrides=()):
    """A run of step 7 whose encoder is called NAME; of several NAMES, each has a task of its own."""
    resolved = composed(run_dir, tokenizer, [*OVERRIDES[family], *overrides])
    encoder = resolved["encoders"].pop(ALONE[family])
    ((task, spec),) = resolved["tasks"].items()
    del resolved["tasks"][task]
    for name in names:
        resolved["encoders"][name] = encoder
        resolved["tasks"][f"{task}_{name}"] = {**spec, "encoders": dict.fromkeys(spec["encoders"], name)}
    directory = RunDirectory(str(run_dir))
    directory.freeze_config(resolved, {"step": 0})
    save(directory, resolved, build_model(resolved))
    return str(run_dir)


@pytest.fixture
def shards(tmp_path):
    return labelled(tmp_path)


def test_an_encoder_of_texts_may_have_any_name(tmp_path, tokenizer_path, shards):
    run = named(tmp_path / "origin", tokenizer_path, "bert", "words")
    found = config.load(expand(command(run, shards, tmp_path / "run")[1:]))
    task = found["tasks"]["label"]
    assert task["encoders"] == {"input": "words"}
    assert task["objective"]["width"] == 32
    assert task["prepare"]["labels"] == list(LABELS)
    assert set(build_model(found).encoders) == {"words"}
    wider = config.load(expand(command(run, shards, tmp_path / "run", "encoders.words.width=64")[1:]))
    assert wider["tasks"]["label"]["objective"]["width"] == 64


def test_one_of_sounds_says_its_frames_as_well(tmp_path, tokenizer_path):
    small = ["encoders.audio.kernels=[10,8,4]", "encoders.audio.strides=[5,4,4]"]
    run = named(tmp_path / "origin", tokenizer_path, "wav2vec2", "ears", overrides=small)
    write(((f"{n}", {"wav": wav(n), "cls": b"a"}) for n in range(4)), tmp_path / "shards", "own-train", 10**6)
    data = ["data.heldout=null", f"data.folder={tmp_path / 'shards'}"]
    for more in ([], ["+task@tasks.label=audio_classification"]):
        task = config.load(expand([run, *data, *more]))["tasks"]["label"]
        assert task["encoders"] == {"input": "ears"}
        assert task["prepare"]["input"]["kernels"] == [10, 8, 4]
        assert task["prepare"]["input"]["strides"] == [5, 4, 4]


def test_of_several_of_one_modality_one_is_named(tmp_path, tokenizer_path, shards):
    run = named(tmp_path / "origin", tokenizer_path, "bert", "questions", "answers")
    given = [run, f"data.folder={shards}", "+task@tasks.kind=text_classification"]
    with pytest.raises(
        InputError, match=r"tasks.kind may take answers or questions; say which: tasks.kind.encoders.in"
    ):
        expand(given)
    task = config.load(expand([*given, "tasks.kind.encoders.input=questions"]))["tasks"]["kind"]
    assert task["encoders"] == {"input": "questions"}
    assert task["objective"]["width"] == 32


def test_a_setting_that_the_encoder_lacks_is_to_be_given(tmp_path, tokenizer_path):
    run = named(tmp_path / "origin", tokenizer_path, "wav2vec2", "ears")
    write(((f"{n}", {"wav": wav(n), "cls": b"a"}) for n in range(4)), tmp_path / "shards", "own-train", 10**6)
    given = [run, "data.heldout=null", f"data.folder={tmp_path / 'shards'}", "~encoders.ears.strides"]
    with pytest.raises(
        InputError, match=r"strides follows the 'strides' of its encoder, which encoders.ears has not; give"
    ):
        expand(given)
    found = config.load(expand([*given, "tasks.label.prepare.input.strides=[5,2,2,2,2,2,2]"]))
    assert found["tasks"]["label"]["prepare"]["input"]["strides"] == [5, 2, 2, 2, 2, 2, 2]


def test_weights_that_a_plug_in_began_with_are_not_read_again(tmp_path, tokenizer_path, shards):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    module = transformers.BertModel(transformers.BertConfig(vocab_size=320, **sizes), add_pooling_layer=False)
    save_file(module.state_dict(), tmp_path / "first.safetensors")
    plug_in = ["encoder@encoders.text=hf_bert", "encoders.text.width=32", f"encoders.text.weights={tmp_path}"]
    mlm = ["experiment=mlm_tiny", "encoders.text.vocab_size=320", *plug_in]
    resolved = composed(tmp_path / "origin", tokenizer_path, mlm)
    directory = RunDirectory(str(tmp_path / "origin"))
    directory.freeze_config(resolved, {"step": 0})
    save(directory, resolved, build_model(resolved))
    (tmp_path / "first.safetensors").unlink()
    more = "trusted_roots=[transformers]"
    found = config.load(expand(command(str(tmp_path / "origin"), shards, tmp_path / "run", more)[1:]))
    assert found["encoders"]["text"]["weights"] is None
    assert set(build_model(found).encoders) == {"text"}
