"""A run goes on with any number of devices and any strategy: same samples, weights equal by rounding or to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pretrain import checkpoint
from pretrain.ledger import computed, recorded
from pretrain.run import RunDirectory
from tests.integration.ranks import run_together
from tests.integration.runs import SMALL, run

MODALITIES, TASKS = ("text", "image", "audio"), ("mlm", "clip", "clap", "wav2vec")
KEPT = ["ledger=true", "schedule=constant", "ema.decay=0.9"]
STILL = [f"encoders.{name}.dropout=0" for name in MODALITIES]  # other ranks draw other numbers
FSDP = "trainer.strategy=fsdp"
HSDP = ("trainer.strategy=hsdp", "trainer.shard_size=2")
EXACT = ["trainer.deterministic=exact", "trainer.exact_micro_batch_size=1"]


def stages(run_dir: Path, settings: Sequence[str], *stages: tuple[int, ...]) -> checkpoint.Content:
    """The last checkpoint of a run whose parts are (ranks, step at which to end, more settings)."""
    for ranks, end, *more in stages:
        given = [*SMALL, *KEPT, *settings, f"run_dir={run_dir}", f"max_steps={end}", *map(str, more)]
        assert run_together(ranks, given) == [0] * ranks
    return checkpoint.find(run_dir)


def apart(found: checkpoint.Content, right: checkpoint.Content) -> float:
    """Relative distance of all weights, averages and optimizer state."""
    far = 0.0
    for kind in ("model", "optimizer", "ema"):
        one, other = getattr(found, kind), getattr(right, kind)
        assert one.keys() == other.keys()
        off = sum(float((one[n].double() - t.double()).square().sum()) for n, t in other.items())
        far = max(far, (off / sum(float(t.double().square().sum()) for t in other.values())) ** 0.5)
    return far


def ledger(run_dir: Path) -> list[dict[str, object]]:
    return list(recorded(RunDirectory(str(run_dir), rank=-1), 1, 6))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(2, 2, FSDP), (1, 4), (2, 6)], id="fsdp-single-ddp"),
        pytest.param([(2, 2), (4, 4, *HSDP), (2, 6, FSDP)], id="ddp-hsdp-fsdp", marks=pytest.mark.slow),
        pytest.param([(2, 2), (1, 4), (4, 6)], id="two-one-four", marks=pytest.mark.slow),
    ],
)
def test_other_devices_go_on_with_the_same_samples(tmp_path: Path, parts: list[tuple[int, ...]]) -> None:
    assert run([*SMALL, *KEPT, *STILL, "max_steps=6", f"run_dir={tmp_path / 'straight'}"]) == 0
    right = checkpoint.find(tmp_path / "straight")
    found = stages(tmp_path / "moved", STILL, *parts)
    assert 0 < apart(found, right) < 1e-6
    assert ledger(tmp_path / "moved") == ledger(tmp_path / "straight")
    assert ledger(tmp_path / "moved") == list(computed(RunDirectory(str(tmp_path / "moved"), rank=-1), 1, 6))
    assert "changed: trainer.devices" in (tmp_path / "moved/log.txt").read_text()


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(2, 3), (1, 6, "loader.workers=2", "micro_batch_size=2")], id="two-one"),
        pytest.param([(4, 2), (1, 4), (2, 6)], id="four-one-two", marks=pytest.mark.slow),
    ],
)
def test_exact_leaves_no_trace_of_the_devices(tmp_path: Path, parts: list[tuple[int, ...]]) -> None:
    """With dropout, Gumbel noise, all four default tasks; metrics are equal too."""
    assert run([*SMALL, *KEPT, *EXACT, "max_steps=6", f"run_dir={tmp_path / 'straight'}"]) == 0
    found, right = stages(tmp_path / "moved", EXACT, *parts), checkpoint.find(tmp_path / "straight")
    for kind in ("model", "optimizer", "ema"):
        assert all(torch.equal(getattr(found, kind)[n], t) for n, t in getattr(right, kind).items()), kind


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    for given in (
        ["trainer.strategy=hsdp"],
        ["trainer.shard_size=2"],
        ["trainer.strategy=fsdp", "trainer.deterministic=exact"],
        ["trainer.deterministic=nearly"],
        ["trainer.checkpoint_blocks=some"],
    ):
        assert run([*SMALL, f"run_dir={tmp_path / 'run'}", *given]) == 2, given
    assert run_together(2, [*SMALL, f"run_dir={tmp_path / 'run'}", *EXACT[:1], "trainer.exact_micro_batch_size=4"]) == [
        2,
        2,
    ]


def test_dropout_and_recomputing_may_change_on_resume(tmp_path: Path) -> None:
    common = [*SMALL, f"run_dir={tmp_path / 'run'}"]
    assert run([*common, "max_steps=3"]) == 0
    assert run([*common, "max_steps=6", *STILL, "trainer.checkpoint_blocks=all"]) == 0
    log = (tmp_path / "run/log.txt").read_text()
    assert "changed: encoders.text.dropout was 0.1, is 0" in log
    assert "checkpoint_blocks" not in log
    assert run([*common, "max_steps=9", "encoders.text.depth=2"]) == 2
