"""Adapting is training: killed and continued to the bit; what is frozen stays; what comes out is used as any run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from modalities.lora import is_update
from pretrain import checkpoint
from pretrain.run import RunDirectory
from tests.integration.runs import kill_at, outcome, run, steps
from tests.pretrain.adapting.small import command, labelled, origin


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, tokenizer_path: str) -> tuple[str, str]:
    """A trained run, and labelled shards."""
    folder = tmp_path_factory.mktemp("given")
    return origin(folder, tokenizer_path), labelled(folder)


def weights(run_dir: Path | str) -> dict[str, torch.Tensor]:
    return checkpoint.find(run_dir).model


def test_kills_leave_no_trace(tmp_path: Path, given: tuple[str, str]) -> None:
    noise = ["encoders.text.dropout=0.1", "method=lora", "lora.rank=2"]
    assert run(command(*given, tmp_path / "straight", *noise)) == 0
    again = command(*given, tmp_path / "killed", *noise)
    for step in (2, 5):  # before the first checkpoint, and between two
        assert kill_at(again, tmp_path / "killed", step)
    assert run(again) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    assert steps(tmp_path / "killed") == list(range(1, 9))


@pytest.mark.slow
def test_the_best_checkpoint_by_accuracy_is_kept(tmp_path: Path, given: tuple[str, str]) -> None:
    more = ["checkpoint.every_n_steps=1", "evaluate.every_n_steps=1", "checkpoint.keep_last=1"]
    best = [
        "checkpoint.keep_best.count=1",
        "checkpoint.keep_best.metric=label/accuracy",
        "checkpoint.keep_best.mode=max",
    ]
    assert run(command(*given, tmp_path / "run", *more, *best, "optimizer.lr=0.02")) == 0
    rows = RunDirectory(str(tmp_path / "run"), rank=-1).rows("metrics.jsonl")
    top = max(rows, key=lambda row: (row["heldout/label/accuracy"], row["step"]))["step"]
    kept = {checkpoint.step_of(path) for path in checkpoint.published(tmp_path / "run" / "checkpoints")}
    assert kept == {top, 8}
    results = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert sum(row["samples"] for row in results["label/accuracy"]["classes"].values()) == 6


def test_a_frozen_encoder_stays_to_the_bit(tmp_path: Path, given: tuple[str, str]) -> None:
    assert run(command(*given, tmp_path / "run", "method=frozen", "encoders.text.dropout=0.1")) == 0
    before, after = weights(given[0]), weights(tmp_path / "run")
    encoder = [name for name in after if name.startswith("encoders.")]
    assert encoder
    assert all(torch.equal(after[name], before[name]) for name in encoder)
    assert after["objectives.label.head.bias"].any()


@pytest.mark.slow
def test_with_updates_the_weights_themselves_stay_and_all_that_reads_runs_gets_both(
    tmp_path: Path, given: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(*given, tmp_path / "run", "method=lora", "lora.rank=2", "optimizer.lr=0.05")) == 0
    before, after = weights(given[0]), weights(tmp_path / "run")
    updates = [name for name in after if is_update(name)]
    assert len(updates) == 3 * 4 * 2
    assert all(after[name].any() for name in updates)
    own = [name for name in after if name.startswith("encoders.") and name not in updates]
    assert all(torch.equal(after[name], before[name]) for name in own)

    # The weights of a run that begins with these are the merged ones; with a rate of 0 they stay so.
    again = command(str(tmp_path / "run"), given[1], tmp_path / "next", "optimizer.lr=0", "max_steps=1")
    assert run(again) == 0
    name = "encoders.text.trunk.blocks.0.mlp_in"
    a, b, scale = (after[f"{name}.lora_{part}"] for part in ("a", "b", "scale"))
    assert torch.equal(weights(tmp_path / "next")[f"{name}.weight"], after[f"{name}.weight"] + scale * (b @ a))

    shards = f"{given[1]}/own-val-*.tar"
    for run_dir, out in (("run", "a"), ("next", "b")):
        assert run(["embed", str(tmp_path / run_dir), shards, "--out", str(tmp_path / out), "--device", "cpu"]) == 0
    first, second = (sorted((tmp_path / out).glob("**/*.npy")) for out in ("a", "b"))
    assert [one.read_bytes() for one in first] == [one.read_bytes() for one in second]
    assert first
    assert run(["evaluate", str(tmp_path / "run")]) == 0
    measured = json.loads((tmp_path / "run/evaluations/step-00000008.json").read_text())["metrics"]
    assert measured["label/loss"] == json.loads((tmp_path / "run/results.json").read_text())["metrics"]["label/loss"]
    assert run(["export", str(tmp_path / "run"), "--out", str(tmp_path / "hf")]) == 0
    assert json.loads((tmp_path / "hf/config.json").read_text())["architectures"] == ["BertModel"]


def test_other_labels_are_refused_by_name(
    tmp_path: Path, given: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(command(*given, tmp_path / "run", "max_steps=3")) == 0
    errors = tmp_path / "errors.txt"
    monkeypatch.setenv("PRETRAIN_TEST_STDERR", str(errors))
    assert run(command(*given, tmp_path / "run", "tasks.label.prepare.labels=[cold,wet,hot]")) == 2
    assert (
        "tasks.label.objective.labels lacks 'dry' and has the new 'hot', which changes the model" in errors.read_text()
    )


def test_an_adapted_run_is_adapted_to_other_labels(tmp_path: Path, given: tuple[str, str]) -> None:
    assert run(command(*given, tmp_path / "run", "max_steps=3")) == 0
    shards = labelled(tmp_path, labels=("even", "odd"))
    assert run(command(str(tmp_path / "run"), shards, tmp_path / "next", "max_steps=1", "method=frozen")) == 0
    before, after = weights(tmp_path / "run"), weights(tmp_path / "next")
    assert len(after["objectives.label.head.weight"]) == 2
    encoder = [name for name in after if name.startswith("encoders.")]
    assert all(torch.equal(after[name], before[name]) for name in encoder)
    assert "objectives.label begins anew: it is for other labels" in (tmp_path / "next/log.txt").read_text()


def test_a_sample_of_no_known_label_goes_to_quarantine(
    tmp_path: Path, tokenizer_path: str, given: tuple[str, str]
) -> None:
    shards = labelled(tmp_path, labels=("cold", "dry", "wet", "odd"))
    assert run(command(given[0], shards, tmp_path / "run", "tasks.label.prepare.labels=[cold,dry,wet]")) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/quarantine.jsonl").read_text().splitlines()]
    assert rows
    assert {(row["kind"], row["member"]) for row in rows} == {("unknown_label", "cls")}
    assert {row.get("split", "train") for row in rows} >= {"train"}


def test_two_heads_and_two_micro_batches(tmp_path: Path, given: tuple[str, str]) -> None:
    shards = labelled(tmp_path, json=lambda n: json.dumps({"parity": n % 2}).encode())
    heads = ["+task@tasks.label=text_classification", "+task@tasks.parity=text_classification"]
    heads += ["tasks.parity.prepare.label=json.parity", "tasks.parity.batch_size=6", "tasks.parity.weight=0.5"]
    heads += ["max_steps=3", "trainer.precision=64-true", "encoders.text.dropout=0"]
    heads += ["encoders.text.trunk.input_dropout=0"]
    for name, micro in (("whole", "null"), ("parts", "2")):
        assert run(command(given[0], shards, tmp_path / name, *heads, f"micro_batch_size={micro}")) == 0
    whole, parts = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert {name.split(".")[1] for name in whole if name.startswith("objectives.")} == {"label", "parity"}
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)


def test_rates_fall_with_the_layers(tmp_path: Path, given: tuple[str, str]) -> None:
    """Adam's first step moves every number by the rate, whatever the gradient: lr times the factor of its layer."""
    more = ["method=layerwise", "optimizer.layer_decay=0.5", "optimizer.weight_decay=0", "max_steps=1"]
    more += ["schedule=constant", "schedule.warmup_steps=0", "optimizer.lr=0.01", "trainer.precision=64-true"]
    assert run(command(*given, tmp_path / "run", *more)) == 0
    before, after = weights(given[0]), weights(tmp_path / "run")
    moved = {}
    for name in ("trunk.blocks.0.mlp_out.weight", "trunk.blocks.1.mlp_out.weight", "token_embedding.weight"):
        full = f"encoders.text.{name}"
        moved[name] = float((after[full].double() - before[full].double()).abs().max())
    # Two layers: 1 above the second, which has a half, the first a quarter, embeddings an eighth.
    assert list(moved.values()) == pytest.approx([0.0025, 0.005, 0.00125], rel=1e-3)


@pytest.mark.slow
def test_two_processes_learn_the_same(tmp_path: Path, given: tuple[str, str]) -> None:
    more = [
        "trainer.precision=64-true",
        "encoders.text.dropout=0",
        "encoders.text.trunk.input_dropout=0",
        "max_steps=3",
    ]
    for devices in (1, 2):
        assert run(command(*given, tmp_path / f"of{devices}", *more, f"trainer.devices={devices}"), 300) == 0
    torch.testing.assert_close(weights(tmp_path / "of2"), weights(tmp_path / "of1"), rtol=1e-9, atol=1e-9)
