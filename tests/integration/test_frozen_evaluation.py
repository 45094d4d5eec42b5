"""A run that was started by a whole config (``--config``: Slurm, torchrun, a sweep) is evaluated by that config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pretrain import config
from pretrain.cli import main
from pretrain.evaluation import results
from pretrain.report.facts import read_facts
from pretrain.report.happened import happened
from tests.integration.runs import TEXT, run


@pytest.fixture
def trained(tmp_path: Path, shards, tokenizer_path: str) -> Path:  # type: ignore[no-untyped-def]
    """A run of own texts, by a file alone."""
    source, folder = shards("own", 40), tmp_path / "run"
    given = [*TEXT, "max_steps=2", "evaluate.every_n_steps=2", f"run_dir={folder}", "report.enabled=false"]
    given += ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}"]
    given += [f"tasks.mlm.source={source}", f"tasks.mlm.heldout={source}"]
    file = tmp_path / "frozen.yaml"
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(config.load(given))))
    assert run(["--config", str(file), "log_every_n_steps=1"]) == 0
    return folder


def evaluate(folder: Path, *more: str) -> dict:  # type: ignore[type-arg]
    assert main(["evaluate", str(folder), "--threads", "1", *more]) == 0
    found = results.read(results.path_of(folder, 2))
    assert found is not None
    return dict(found["metrics"])


def test_by_the_run_s_own_data_and_with_every_change(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (start,) = (json.loads(line) for line in (trained / "starts.jsonl").read_text().splitlines())
    assert (start["file"], start["overrides"]) == (str(tmp_path / "frozen.yaml"), ["log_every_n_steps=1"])
    own = json.loads((trained / "results.json").read_text())["metrics"]
    assert evaluate(trained) == own
    pattern = f"{tmp_path}/shards/own-*.tar"
    added = evaluate(trained, "+evaluator@evaluators.use=health", f"evaluators.use.source={pattern}")
    assert {name: one for name, one in added.items() if name in own} == own
    assert any(name.startswith("use/") for name in added)
    assert main(["evaluate", str(trained), "~tasks.mlm.heldout"]) == 2
    assert main(["evaluate", str(trained), "evaluate.sampels=3"]) == 2
    said = capsys.readouterr().err
    assert "there is nothing to evaluate by" in said
    assert "unknown key 'evaluate.sampels'; did you mean 'evaluate.samples'" in said
    assert main(["runs", "show", str(trained)]) == 0
    assert f"--config {tmp_path}/frozen.yaml log_every_n_steps=1" in capsys.readouterr().out
    assert f"pretrain --config {tmp_path}/frozen.yaml log_every_n_steps=1" in str(happened(read_facts(trained)))


def test_its_file_permits_itself_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "config.yaml"
    text = file.read_text().replace("trusted_roots: []", "trusted_roots: [shutil_like]")
    text = text.replace("evaluators: {}", "evaluators: {x: {_target_: shutil_like.rmtree}}")
    file.write_text(text + "defaults: [nowhere]\nhydra: {searchpath: ['pkg://antigravity']}\n")
    assert main(["evaluate", str(trained)]) == 2
    assert "is not below a trusted root" in capsys.readouterr().err
