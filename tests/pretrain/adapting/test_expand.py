import json
import os

import pytest

from data.errors import InputError
from data.label import digest_of
from data.write import write
from pretrain import config
from pretrain.adapting.expand import expand
from pretrain.adapting.labels import labels_of
from pretrain.adapting.origin import written
from pretrain.grammar import parse
from pretrain.model import build_model
from tests.conftest import sentence, wav
from tests.pretrain.adapting.small import LABELS, command, labelled, origin
from tests.pretrain.export.families import saved


@pytest.fixture
def run(tmp_path, tokenizer_path):
    return origin(tmp_path, tokenizer_path)


@pytest.fixture
def shards(tmp_path):
    return labelled(tmp_path)


def composed(run, shards, tmp_path, *more):
    return config.load(expand(command(run, shards, tmp_path / "run", *more)[1:]))


def test_a_run_brings_encoder_tokenizer_and_weights_and_the_samples_their_labels(run, shards, tmp_path, tokenizer_path):
    found = composed(run, shards, tmp_path)
    assert found["name"] == "adapt_origin"
    assert found["init_from"] == f"{run}/checkpoints/step-00000007"
    assert found["encoders"]["text"]["width"] == 32
    assert found["tokenizer"] == tokenizer_path
    task = found["tasks"]["label"]
    assert task["prepare"]["labels"] == task["objective"]["labels"] == list(LABELS)
    assert task["prepare"]["input"]["_target_"] == "modalities.text.prepare.TextPrepare"
    assert set(build_model(found).tasks) == {"label"}


def test_what_is_said_on_the_command_line_counts(run, shards, tmp_path):
    more = ["encoders.text.dropout=0.25", "tasks.label.prepare.labels=[dry,wet]", "method=frozen", "name=mine"]
    found = composed(run, shards, tmp_path, *more)
    assert found["encoders"]["text"]["dropout"] == 0.25
    assert found["tasks"]["label"]["objective"]["labels"] == ["dry", "wet"]
    assert found["optimizer"]["lr_factors"] == {"encoders": 0}
    assert found["name"] == "mine"


def test_a_run_may_lie_in_a_folder_named_by_its_overrides(run, tmp_path, shards):
    os.renames(run, tmp_path / "lr=0.1/origin")
    found = composed(str(tmp_path / "lr=0.1/origin"), shards, tmp_path)
    assert found["init_from"] == f"{tmp_path}/lr=0.1/origin/checkpoints/step-00000007"


def test_a_causal_encoder_is_never_given_the_end(tmp_path, tokenizer_path, shards):
    found = composed(origin(tmp_path / "causal", tokenizer_path, "gpt2"), shards, tmp_path)
    assert found["tasks"]["label"]["prepare"]["input"]["_target_"] == "modalities.text.causal_lm.OpenText"


def test_an_encoder_of_few_positions_says_how_long_texts_may_be(tmp_path, tokenizer_path, shards):
    run = origin(tmp_path / "clip", tokenizer_path, "clip")
    given = ["adapt", run, f"data.folder={shards}", "+task@tasks.label=text_classification"]
    with pytest.raises(InputError, match=r"takes 77 .*; set tasks.label.prepare.input.max_tokens=77$"):
        build_model(config.load(expand(given[1:])))
    fits = "tasks.label.prepare.input.max_tokens=77"
    assert set(build_model(config.load(expand([*given[1:], fits]))).tasks) == {"label"}


def test_labels_of_a_run_that_has_begun_are_its_own(run, shards, tmp_path):
    import yaml

    frozen = tmp_path / "run"
    frozen.mkdir()
    task = {"prepare": {"labels": ["b", "a", "c"]}}
    (frozen / "config.yaml").write_text(yaml.safe_dump({"tasks": {"label": task}}))
    assert composed(run, shards, tmp_path)["tasks"]["label"]["prepare"]["labels"] == ["b", "a", "c"]


def test_several_tasks_have_labels_of_their_own(run, tmp_path):
    shards = labelled(tmp_path, json=lambda n: json.dumps({"parity": n % 2}).encode())
    more = ["+task@tasks.label=text_classification", "+task@tasks.parity=text_classification"]
    found = composed(run, shards, tmp_path, *more, "tasks.parity.prepare.label=json.parity")
    assert found["tasks"]["parity"]["objective"]["labels"] == ["0", "1"]
    assert found["tasks"]["label"]["objective"]["labels"] == list(LABELS)


def test_a_sweep_over_methods_is_expanded_once(run, shards, tmp_path):
    given = command(run, shards, tmp_path / "run", "-m", "method=full,frozen")
    found = expand(given[1:])
    assert "-m" in found
    assert "method=full,frozen" in found


def test_a_folder_of_transformers(tmp_path, tokenizer_path, vocab_size, shards):
    transformers = pytest.importorskip("transformers")
    saved(transformers, "bert", vocab_size, tokenizer_path, tmp_path / "hf")
    sizes = [f"encoders.text.{key}={value}" for key, value in (("width", 32), ("depth", 2), ("heads", 4))]
    with pytest.raises(InputError, match=r"does not say which encoder of conf/encoder it is; add \+encoder@enc"):
        expand([str(tmp_path / "hf"), f"data.folder={shards}"])
    more = ["+encoder@encoders.text=bert_base", *sizes, f"encoders.text.vocab_size={vocab_size}"]
    found = composed(str(tmp_path / "hf"), shards, tmp_path, *more, "encoders.text.max_tokens=140")
    assert found["init_from"] == str(tmp_path / "hf")
    assert found["tokenizer"] == str(tmp_path / "hf" / "tokenizer.json")
    assert found["tasks"]["label"]["prepare"]["labels"] == list(LABELS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "adapt takes one run, checkpoint or folder of transformers, then KEY=VALUE; none is given"),
        (["{run}", "other"], "KEY=VALUE; got .*origin, other"),
        (["nowhere"], "'nowhere' does not exist"),
        (["{run}", "--config", "a.yaml"], "'--config FILE' alone continues what FILE describes"),
        (["{run}"], "tasks.label.source is not given; name labelled shards: data.folder=DIR"),
        (["{run}", "data.folder=nowhere"], "source 'label': .*nowhere/"),
        (["{run}", "data.folder={shards}", "tasks.label.prepare.label=kind"], "none of 12 samples .* no member kind"),
        (["{run}", "data.folder={shards}", "tasks.label.prepare.label=a.b"], "label 'a.b' is neither a member"),
        (["{run}", "data.folder={shards}", "method=lorra"], "method 'lorra' does not exist; did you mean 'lora'"),
    ],
)
def test_what_is_wrong_is_said(run, shards, arguments, message):
    with pytest.raises(InputError, match=message):
        expand([one.format(run=run, shards=shards) for one in arguments])


def test_of_several_encoders_one_is_to_be_chosen(tmp_path, tokenizer_path, shards):
    run = origin(tmp_path / "clip", tokenizer_path, "clip")
    with pytest.raises(InputError, match=r"has the encoders image, text; say what to teach: \+task@tasks.NAME=image_"):
        expand([run, f"data.folder={shards}"])


def test_sounds_are_prepared_at_the_rate_of_the_pretraining_and_read_as_characters(tmp_path, tokenizer_path):
    from tests.pretrain.export.families import OVERRIDES, published

    rate = "+tasks.wav2vec.prepare.sample_rate=8000"
    published(tmp_path / "origin", tokenizer_path, [*OVERRIDES["wav2vec2"], rate])
    samples = ((f"{n}", {"wav": wav(n), "txt": sentence(n, 2).encode()}) for n in range(4))
    write(samples, tmp_path / "shards", "own-train", 10**6)
    more = ["+task@tasks.read=ctc", "data.heldout=null", f"data.folder={tmp_path / 'shards'}"]
    found = config.load(expand([str(tmp_path / "origin"), *more]))["tasks"]["read"]
    assert found["prepare"]["input"]["sample_rate"] == 8000
    letters = {letter for n in range(4) for letter in sentence(n, 2)}
    assert found["objective"]["labels"] == sorted(letters)


def test_samples_without_a_label_are_told_and_left(shards, tmp_path, caplog):
    write([("none", {"txt": b"a text"})], tmp_path / "shards", "own-train-more", 10**6)
    node = {"_target_": "modalities.classification.Classified", "label": "cls"}
    from data.store.store import Store

    with caplog.at_level("WARNING", logger="pretrain"):
        found = labels_of("label", f"{tmp_path}/shards/own-train*.tar", node, (), Store())
    assert found == list(LABELS)
    assert "1 samples have no label (the first: 'none' in 'own-train-more-000000.tar'" in caplog.text


@pytest.mark.parametrize(
    "value",
    [1, 0.1, 1e-12, True, None, "a b", "it's", 'say "x"', "a\\", "[x]", "null", "1", [" ", ",", "'"], {"a": {"b": []}}],
)
def test_values_survive_the_grammar(value):
    (found,) = parse([f"key={written(value, 'key')}"])
    assert found.value() == value
    assert type(found.value()) is type(value) or isinstance(value, str | dict | list)


def test_a_checkpoint_cannot_refer_to_the_environment():
    with pytest.raises(InputError, match="refers to something else; a checkpoint's config is resolved"):
        written({"a": ["${oc.env:HOME}"]}, "encoders.text")


def test_help(capsys):
    from pretrain.cli import main

    assert main(["adapt", "--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: pretrain adapt RUN" in said
    assert "method=full" in said


def test_a_table_of_labels_belongs_to_the_run_by_its_digest(run, tmp_path, shards):
    table = tmp_path / "labels.csv"
    table.write_text("key,label\n" + "".join(f"train-{n:04d},{'odd' if n % 2 else 'even'}\n" for n in range(12)))
    more = [f"tasks.label.prepare.label={{table:'{table}'}}"]
    found = composed(run, shards, tmp_path, *more)["tasks"]["label"]
    assert found["objective"]["labels"] == ["even", "odd"]
    assert found["prepare"]["label"] == {"table": str(table), "sha256": digest_of(str(table))}
