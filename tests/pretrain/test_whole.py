from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data.errors import InputError
from pretrain import config


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(config.load(["experiment=mlm_tiny", "seed=3"]))))
    return str(path)


def test_a_whole_config_is_what_was_composed(file):
    assert config.load([], file=file) == config.load(["experiment=mlm_tiny", "seed=3"])


def test_its_values_can_be_changed(file):
    changed = config.load(["seed=4", "optimizer.lr=1e-4", "trusted_roots=[mine]", "name='a=b, c'"], file=file)
    assert config.difference(config.load([], file=file), changed) == {
        "seed": (3, 4),
        "optimizer.lr": (0.003, 0.0001),
        "trusted_roots": ([], ["mine"]),
        "name": ("mlm_tiny", "a=b, c"),
    }


def test_a_config_of_before_there_were_launchers_is_started_here(file, tmp_path):
    old = OmegaConf.load(file)
    del old["launcher"]
    OmegaConf.save(old, tmp_path / "old.yaml")
    assert config.load([], file=str(tmp_path / "old.yaml"))["launcher"] == {"kind": "local"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=4", "has no 'sed'; did you mean 'seed'?"),
        ("optimizer.lrr=4", "has no 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ("+optimizer.new=4", "'\\+optimizer.new=4' cannot change"),
        ("~tasks.mlm", "'~tasks.mlm' cannot change"),
        ("seed=1,2", "'seed=1,2' cannot change"),
        ("seed=x", "seed: Value 'x'"),
        ("seed=-1", "seed=-1 is too small"),
        ("a b=[", "is no override"),
    ],
)
def test_what_cannot_be_changed_is_named(file, override, message):
    with pytest.raises(InputError, match=message):
        config.load([override], file=file)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is not there"), ("a: [", "cannot be read"), ("- 1", "is not the config of a run")]
)
def test_what_is_no_config_is_named(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        config.load([], file=str(path))


def test_a_file_trusts_nobody_by_itself(file):
    Path(file).write_text(Path(file).read_text().replace("trusted_roots: []", "trusted_roots: [evil]"))
    with pytest.raises(InputError, match="trusted_roots is set by a config file"):
        config.load([], file=file)
    assert config.load(["trusted_roots=[evil]"], file=file)["trusted_roots"] == ["evil"]
