import json
import pwd

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from data.errors import InputError
from data.store.cache import Cache
from modalities.text.tokenizer import TextTokenizer
from pretrain import composition, config, resolvers

EXPERIMENTS = composition.groups()["experiment"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    loaded = config.load([f"experiment={experiment}"])
    assert loaded["name"] == experiment
    assert loaded["run_dir"] == f"runs/{experiment}"
    assert loaded["tasks"] or experiment == "adapt"  # a trained run brings encoders, tests/pretrain/adapting builds it
    for task in loaded["tasks"].values():
        assert set(task["encoders"].values()) <= set(loaded["encoders"])
        assert task["micro_batch_size"] is None


def test_the_promised_experiments_and_groups_are_there():
    assert {"mlm_tiny", "clm_tiny", "clip_tiny", "wav2vec2_tiny", "grounded_tiny"} <= set(EXPERIMENTS)
    assert config.load([])["name"] == "grounded_tiny"


def test_overrides_reach_every_task():
    loaded = config.load(["micro_batch_size=4", "tasks.clip.micro_batch_size=2", "~tasks.mlm", "+task@tasks.clm=clm"])
    assert {name: task["micro_batch_size"] for name, task in loaded["tasks"].items()} == {
        "clip": 2,
        "clap": 4,
        "wav2vec": 4,
        "clm": 4,
    }


def test_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("PRETRAIN_CACHE", "/somewhere")
    loaded = config.load([])
    assert loaded["data"]["root"].startswith("/somewhere/demo-v1")
    assert loaded["tokenizer"] == loaded["data"]["root"] + "/tokenizer-2048.json"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["max_step=3"], "unknown key 'max_step'; did you mean 'max_steps'?"),
        (["tasks.mlm.batch_sizee=3"], "unknown key 'tasks.mlm.batch_sizee'; did you mean 'tasks.mlm.batch_size'?"),
        (["tasks.mlm.objective.widht=3"], "did you mean 'tasks.mlm.objective.width'?"),
        (["trainer.max_stepz=3"], r"unknown key 'trainer.max_stepz'; did you mean 'max_steps'\? choices: trainer.acc"),
        (["lr=3"], r"unknown key 'lr'; did you mean 'optimizer.lr'\? choices: alarms, "),
        (["trainer.batch_size=8"], r"did you mean 'evaluate.batch_size' or 'tasks.clap.batch_size' or"),
        (["num_workers=2"], r"unknown key 'num_workers'; did you mean 'loader.workers'\? "),
        (["epochs=2"], "unknown key 'epochs'; did you mean 'max_steps'. choices: alarms, "),
        (["experiment=clip_tiny", "tasks.mlm.weight=3"], "unknown key 'tasks.mlm.weight'; .*choices: tasks.clip$"),
        (["+task@tasks.clm=clm", "tasks.clm.batchsize=3"], "did you mean 'tasks.clm.batch_size'?"),
        (["encoders.text.pool=first"], r"\(\+encoders.text.pool=... gives an argument"),
        (
            ["tasks.mlm.source.prose.weight=2"],
            r"'tasks.mlm.source.prose.weight' cannot be set: tasks.mlm.source is \$\{data.text.train\}; change it",
        ),
        (["~tasks.mlmm"], "unknown key 'tasks.mlmm'; did you mean 'tasks.mlm'?"),
        (["+loader.worker=1"], "unknown key 'loader.worker'; did you mean 'workers'?"),
        (["+tasks.mlm.foo=1"], "unknown key 'tasks.mlm.foo'; choices: alpha, batch_size"),
        (["experiment=clip_tin"], "experiment 'clip_tin' does not exist; did you mean 'clip_tiny'?"),
        (["encoder@encoders.text=txt_tiny"], "encoder 'txt_tiny' does not exist; did you mean 'text_tiny'?"),
        (["encoder@encoders.more=text_tiny"], r"'encoders.more' has no encoder yet; write \+encoder@encoders.more="),
        (["max_steps=abc"], "max_steps: Value 'abc' of type 'str' could not be converted to Integer"),
        (["tasks.mlm.weight=[1]"], "tasks.mlm.weight: "),
        (["allow_changes=seed"], "allow_changes: "),
        (["max_steps=???"], "Missing mandatory value: max_steps"),
        (["run_dir=${nope}"], "run_dir refers to 'nope'"),
        (["loader=null"], "loader is None, but has keys of its own$"),
        (["tasks.mlm=null"], "tasks.mlm is None, .*'~tasks.mlm'"),
        (["tasks=null"], "tasks is None"),
        (["seed=[1"], r"'seed=\[1' is no override"),
        (["=3"], "override"),
    ],
)
def test_wrong_overrides_are_one_line_that_names_them(overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        config.load(overrides)
    assert "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path):
    (tmp_path / "experiment").mkdir()

    def write(name, text):
        (tmp_path / "experiment" / f"{name}.yaml").write_text("# @package _global_\n" + text)
        return str(tmp_path)

    return write


def test_own_experiments_are_found_beside_the_packaged_ones(own):
    folder = own("mine", "defaults: [mlm_tiny]\nname: mine\nseed: 5\n")
    loaded = config.load(["experiment=mine"], folder)
    assert (loaded["name"], loaded["seed"], list(loaded["tasks"])) == ("mine", 5, ["mlm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3\n", "unknown key 'max_step'; did you mean 'max_steps'?"),
        ("loader: {worker: 3}\n", "unknown key 'loader.worker'; did you mean 'workers'?"),
        ("tasks: {mlm: {batchsize: 3}}\n", "unknown key 'tasks.mlm.batchsize'; did you mean 'batch_size'?"),
        ("trainer: ${nope}\n", "nope"),
        ("seed: [", r"no YAML: .*mine.yaml.*line 4"),
    ],
)
def test_wrong_keys_of_an_own_experiment_are_named(own, text, message):
    folder = own("mine", f"defaults: [mlm_tiny]\nname: mine\n{text}")
    with pytest.raises(InputError, match=message):
        config.load(["experiment=mine"], folder)


def test_an_own_experiments_unknown_override_and_misspelt_name(own):
    folder = own("mine", "defaults: [mlm_tiny]\nname: mine\n")
    with pytest.raises(InputError, match=r"did you mean 'tasks.mlm.weight'\?"):
        config.load(["experiment=mine", "tasks.mlm.wieght=2"], folder)
    with pytest.raises(InputError, match=r"experiment 'mien' does not exist; did you mean 'mine'\?"):
        config.load(["experiment=mien"], folder)
    with pytest.raises(InputError, match="'/nope' is not a folder"):
        config.load([], "/nope")


def test_a_folder_with_brackets_and_blanks_is_searched(tmp_path):
    folder = tmp_path / "my [conf], v=2"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\ndefaults: [mlm_tiny]\nname: mine\n")
    assert config.load(["experiment=mine"], str(folder))["name"] == "mine"


def test_difference_names_added_changed_and_lost_keys():
    old = {"a": 1, "b": {"c": 2, "d": [1]}, "e": {}}
    new = {"a": 1, "b": {"c": 3}, "f": None, "g": 0}
    assert config.difference(old, new) == {"b.c": (2, 3), "b.d": ([1], None), "e": ({}, None), "g": (None, 0)}


def test_a_user_without_a_home_is_told_so_and_gets_no_folder_called_tilde(monkeypatch):
    def unknown(_):
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "PRETRAIN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)  # as of a container's numeric user
    with pytest.raises(InputError, match="no home folder for a cache; set HOME or XDG_CACHE_HOME"):
        config.load(["experiment=mlm_tiny"])
    with pytest.raises(InputError, match="no home folder for a cache; set HOME or XDG_CACHE_HOME"):
        Cache()


def test_a_vocabulary_is_as_large_as_its_highest_id(tokenizer_path, tmp_path):
    trained = Tokenizer.from_file(tokenizer_path)
    assert resolvers.vocab_size(tokenizer_path) == trained.get_vocab_size() == TextTokenizer(tokenizer_path).size
    saved = json.loads(trained.to_str())
    saved["added_tokens"].append({**saved["added_tokens"][-1], "id": 999, "content": "<extra>"})
    saved["model"]["vocab"]["<extra>"] = 999
    (tmp_path / "gaps.json").write_text(json.dumps(saved))
    Tokenizer(Unigram([("[UNK]", 0.0), ("a", -1.0)], unk_id=0)).save(str(tmp_path / "unigram.json"))
    for name, size in (("gaps", 1000), ("unigram", 2)):
        path = str(tmp_path / f"{name}.json")
        assert resolvers.vocab_size(path) == TextTokenizer(path).size == size
    assert resolvers.vocab_size(str(tmp_path / "none.json")) is None
