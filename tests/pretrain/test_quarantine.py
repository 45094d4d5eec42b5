"""Bad samples in a run: each is named in quarantine.jsonl; the budget ends the run, held-out ones do not."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from data.write import write
from pretrain import checkpoint, config, ledger
from pretrain.callbacks import evaluation
from pretrain.cli import main
from pretrain.run import RunDirectory
from tests.conftest import png, sentence


def huge():
    file = io.BytesIO()
    Image.new("L", (9000, 9000)).save(file, "PNG")
    return file.getvalue()


BAD = {
    3: ({"png": b"no picture", "txt": b"words"}, "undecodable", "png"),
    8: ({"png": png(8), "txt": b"\xff\xfe"}, "not_utf8", "txt"),
    12: ({"png": huge(), "txt": b"words"}, "bomb", "png"),
    17: ({"png": png(17)}, "missing", "txt"),
    21: ({"png": png(21), "txt": b"  "}, "empty", "txt"),
    26: ({"txt": b"words"}, "missing", "jpg|jpeg|png|webp"),
}


def members(number, bad):
    return bad[number][0] if number in bad else {"png": png(number), "txt": sentence(number).encode()}


@pytest.fixture
def command(tmp_path, tokenizer_path, vocab_size):
    def make(train=(), heldout=(), *more):
        for name, bad in (("train", train), ("heldout", heldout)):
            samples = ((f"{name}-{n:03d}", members(n, {k: BAD[k] for k in bad})) for n in range(32))
            write(samples, tmp_path / "shards", name, 30_000)
        return [
            "experiment=clip_tiny",
            "data=shards",
            f"data.tokenizer={tokenizer_path}",
            f"data.vocab_size={vocab_size}",
            *(f"data.text.{name}={tmp_path}/shards/{name}-*.tar" for name in ("train", "heldout")),
            f"run_dir={tmp_path}/run",
            "max_steps=8",
            "tasks.clip.batch_size=4",
            "evaluate.samples=32",
            "evaluate.batch_size=8",
            "evaluate.every_n_steps=4",
            "loader.workers=0",
            "logger=none",
            "trainer.threads=1",
            *(f"encoders.{name}.{key}" for name in ("text", "image") for key in ("width=16", "depth=1", "heads=2")),
            "schedule.warmup_steps=2",
            "quarantine.max_share=0.2",
            *more,
        ]

    return make


def quarantined(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run/quarantine.jsonl").read_text().splitlines()]


def test_every_kind_is_named_with_its_member(command, tmp_path):
    assert main(command(BAD)) == 0
    rows = quarantined(tmp_path)
    assert {row["key"]: (row["kind"], row["member"]) for row in rows} == {
        f"train-{number:03d}": (kind, member) for number, (_, kind, member) in BAD.items()
    }
    assert {row["split"] for row in rows} == {"train"}
    assert all(row["shard"].startswith("train-0") and row["reason"] and row["step"] >= 1 for row in rows)


def test_the_budget_ends_the_run_with_a_summary(command, tmp_path, capsys):
    arguments = command(BAD, (), "quarantine.max_share=0.1", "quarantine.min_count=4", "max_steps=20")
    assert main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    rows = quarantined(tmp_path)
    assert f"{len(rows)} of " in last
    assert "more than quarantine.max_share=0.1 and quarantine.min_count=4 allow; " in last
    for kind in {row["kind"] for row in rows}:
        assert f"{sum(row['kind'] == kind for row in rows)} {kind}" in last
    assert f"the first: '{rows[0]['key']}' in '{rows[0]['shard']}': {rows[0]['reason']}; " in last


def test_the_share_is_of_the_samples_seen_whatever_the_batches_were(command, tmp_path, capsys):
    arguments = command(BAD, (), "quarantine.max_share=0.3", "quarantine.min_count=0", "checkpoint.every_n_steps=2")
    assert main([*arguments, "tasks.clip.batch_size=8", "max_steps=4"]) == 0  # an epoch
    less = ["tasks.clip.batch_size=2", "allow_changes=[tasks.clip.batch_size]"]
    assert main([*arguments, *less, "max_steps=20"]) == 0  # and another
    assert len(quarantined(tmp_path)) > 0.3 * 20 * 2
    assert ledger.samples_seen(RunDirectory(f"{tmp_path}/run", rank=-1), 20) == 4 * 8 + 16 * 2
    assert main([*arguments, *less, "max_steps=40", "quarantine.max_share=0.1"]) == 2
    last, rows = capsys.readouterr().err.splitlines()[-1], quarantined(tmp_path)
    assert f" {len(rows)} of {4 * 8 + (rows[-1]['step'] - 4) * 2} samples cannot be used" in last


def test_held_out_samples_are_reported_once_and_count_for_nothing(command, tmp_path):
    arguments = command((), BAD, "quarantine.min_count=0", "quarantine.max_share=0.5")
    assert main(arguments) == 0
    assert main([*arguments, "quarantine.max_share=0.0", "max_steps=12"]) == 2  # too many of them lack a member
    assert main([*arguments, "max_steps=12"]) == 0
    rows = quarantined(tmp_path)
    assert len(rows) == len(BAD)
    assert {(row["split"], row["task"], row["step"]) for row in rows} == {("heldout", "clip.heldout", 4)}
    assert {row["kind"] for row in rows} == {kind for _, kind, _ in BAD.values()}
    assert (tmp_path / "run/log.txt").read_text().count("held-out sample 'heldout-003' in") == 2  # once a start


@pytest.mark.parametrize("trouble", ["away", "damaged"])
def test_what_keeps_held_out_samples_from_being_noted_ends_no_run(command, tmp_path, monkeypatch, capsys, trouble):
    """And nothing else of that step is lost; the next measurement notes them."""
    there, real = tmp_path / "run/quarantine-00007.jsonl", evaluation.measure

    def meanwhile(*given):
        if trouble == "damaged":
            there.write_text('nonsense\n{"step": 1, "split": "heldout"}\n')
        elif not there.exists():
            there.mkdir()  # which cannot be read as a file
        else:
            there.rmdir()
        return real(*given)

    monkeypatch.setattr(evaluation, "measure", meanwhile)
    assert main(command((), BAD, "quarantine.max_share=0.5", "checkpoint.every_n_steps=4")) == 0
    assert [path.name for path in checkpoint.published(tmp_path / "run/checkpoints")] == [
        "step-00000008",
        "step-00000004",
    ]
    assert {row["step"] for row in quarantined(tmp_path)} == {8 if trouble == "away" else 4}
    assert len(quarantined(tmp_path)) == len(BAD)
    said = "which held-out samples cannot be used (after step 4) cannot be written: Is a directory; the run goes on"
    assert (said in " ".join(capsys.readouterr().err.split())) is (trouble == "away")


def test_held_out_data_of_which_nothing_can_be_used_is_not_measured(command, tmp_path):
    arguments = command()
    bad = ((f"heldout-{n:03d}", {"png": b"no", "txt": b"words"}) for n in range(32))
    for path in (tmp_path / "shards").glob("heldout-*"):
        path.unlink()
    write(bad, tmp_path / "shards", "heldout", 30_000)
    assert main(arguments) == 0
    assert len(quarantined(tmp_path)) == 32
    assert "heldout/clip" not in (tmp_path / "run/metrics.jsonl").read_text()


def test_order_elsewhere_is_the_same_with_and_without_bad_samples(command, tmp_path):
    from data.loading.loader import StepLoader, TaskData
    from data.stream import Stream
    from modalities.image.prepare import ImagePrepare

    found = {}
    for name, bad in (("sound", ()), ("bad", (3, 12))):
        command(bad)
        stream = Stream("t", f"{tmp_path}/shards/train-*.tar", 0)
        steps = list(StepLoader({"t": TaskData(stream, ImagePrepare(8), 4)}, 0, 24))
        found[name] = np.concatenate([step.places["t"] for step in steps])
        for path in (tmp_path / "shards").iterdir():
            path.unlink()
    differ = (found["sound"] != found["bad"]).any(1)
    assert set(found["sound"][differ, 1].tolist()) == {3, 12}
    assert differ.sum() == 6  # three epochs
    assert not set(found["bad"][:, 1].tolist()) & {3, 12}


def test_the_deadline_must_come_before_the_other_ranks_give_up(command, capsys):
    assert main(command((), (), "trainer.timeout_s=100", "trainer.devices=2", "trainer.accelerator=cpu")) == 2
    assert "loader.deadline_s=300 must be less than trainer.timeout_s=100" in capsys.readouterr().err
    assert main(command((), (), "loader.warn_after_s=400")) == 2
    assert "loader.warn_after_s=400 is not between 0 and loader.deadline_s=300" in capsys.readouterr().err
    assert config.load([])["loader"]["deadline_s"] < config.load([])["trainer"]["timeout_s"]
