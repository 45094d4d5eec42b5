"""The same bits however a global batch is divided between processes."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from data.errors import InputError
from pretrain import config
from pretrain.exact import check_exact
from tests.integration.conftest import _small_demo, demo_cache
from tests.integration.runs import SMALL
from tests.spread import Plan, run, spread

__all__ = ["_small_demo", "demo_cache"]

TASKS = ("mlm", "clip", "clap", "wav2vec")


def sizes(batch):
    return [f"tasks.{name}.batch_size={batch}" for name in TASKS]


def bits(found):
    """All tensors and metrics of an outcome as bytes."""
    kinds = {
        f"{kind}/{n}": t.numpy().tobytes() for kind in ("model", "ema", "optimizer") for n, t in found[kind].items()
    }
    for step, row in enumerate(found["rows"]):
        for task, metrics in row.items():
            for name, value in (metrics if isinstance(metrics, dict) else {"norm": metrics}).items():
                kinds[f"{step}/{task}/{name}"] = torch.as_tensor(value).detach().numpy().tobytes()
    return kinds


@pytest.mark.parametrize(
    ("batch", "micro", "spreads"),
    [(8, 2, [2, 4]), pytest.param(12, 2, [2, 3], marks=pytest.mark.slow)],  # 12 / 2 leaves do not fill a tree
)
def test_processes_leave_no_trace(batch, micro, spreads, tmp_path):
    """With dropout, Gumbel noise, diversity statistics and contrastive gathers."""
    plan = Plan(overrides=sizes(batch), micro=micro, exact=True, steps=2)
    alone = bits(run(plan))
    for world_size in spreads:
        for found in spread(world_size, tmp_path / str(world_size), partial(run, plan)):
            assert bits(found) == alone


def test_without_it_they_do(tmp_path):
    """The negative control: else the comparison above compares nothing."""
    plan = Plan(overrides=[*sizes(8), *(f"encoders.{name}.dropout=0" for name in ("text", "image", "audio"))], micro=2)
    alone, ranks = run(plan), spread(2, tmp_path, partial(run, plan))
    assert bits(ranks[0]) == bits(ranks[1]) != bits(alone)
    assert bits(run(plan)) == bits(alone)


def test_shares_of_whole_micro_batches_alone(demo_cache):
    composed = config.load([*SMALL, *sizes(12), "trainer.exact_micro_batch_size=4"])
    for world_size in (1, 3):
        check_exact(composed, world_size)
    with pytest.raises(
        InputError, match=r"exact_micro_batch_size=4 does not divide the 6 samples.*choices: 1, 2, 3, 6"
    ):
        check_exact(composed, 2)
