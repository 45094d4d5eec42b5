"""Large micro-batches planned by small ones, beside the same rehearsed whole."""

import pytest

from pretrain import config
from pretrain.plan import plan as planning
from pretrain.plan.breadth import rehearse_broad, step_of, wide_tasks
from pretrain.plan.plan import Planner
from pretrain.plan.rehearsal import rehearse, shares_of

SMALL = ["encoders.text.depth=1", "encoders.text.width=32", "encoders.text.heads=2"]

WINDOWS = ["+encoders.text.trunk.window=8", "data.vocab_size=2000"]


def composed(*overrides):
    return config.load(list(overrides), None)


@pytest.mark.parametrize(
    ("overrides", "micro", "within"),
    [
        (["experiment=mlm_tiny", *SMALL, "tasks.mlm.batch_size=6000"], None, 0.05),
        (["experiment=clm_tiny", *SMALL, "tasks.clm.batch_size=8000"], 4000, 0.05),
        (["experiment=mlm_tiny", *SMALL, *WINDOWS, "tasks.mlm.batch_size=400"], None, 0.12),
        pytest.param(
            ["experiment=wav2vec2_tiny", "encoders.audio.depth=1", "tasks.wav2vec.batch_size=1600"],
            None,
            0.05,
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("largest", [False, True])
def test_a_few_samples_extended_cost_what_many_do(overrides, micro, within, largest):
    settings = composed(*overrides)
    planner = Planner(settings)
    shares, seen = shares_of(settings, 1, micro), []

    def step(shares):
        seen.append(max(share.micro for share in shares.values()))
        return rehearse(settings, planner.drawn, 1, shares, largest)

    found = rehearse_broad(shares, wide_tasks(planner.model), step_of(planner.model), step)
    assert max(seen) < 1600
    whole = step(shares)
    assert sum(found.flops.values()) == pytest.approx(sum(whole.flops.values()), rel=0.03)
    assert found.most == pytest.approx(whole.most, rel=within)
    for name in ("weights", "gradients", "optimizer", "checkpoint", "parameters", "inference"):
        assert getattr(found, name) == getattr(whole, name), name


def test_samples_that_meet_are_all_there(monkeypatch):
    settings = composed(
        *("experiment=clip_tiny", "tasks.clip.batch_size=4096", "encoders.image.depth=1", "encoders.text.depth=1")
    )
    sizes = []

    def noted(settings, drawn, devices, shares, largest):
        sizes.append(shares["clip"].micro)
        return rehearse(settings, drawn, devices, shares, largest)

    monkeypatch.setattr(planning, "rehearse", noted)
    found = Planner(settings).plan(None)
    assert sizes == [4096]
    assert found.memory.activations > 3 * 4 * 4096**2  # the matrix of all pairs, its softmax and its gradient


@pytest.mark.parametrize("experiment", ["mlm_tiny", "clm_tiny", "wav2vec2_tiny"])
def test_flops_of_ragged_samples_are_those_of_all_however_few_are_computed_at_once(experiment):
    """One or two samples would stand for all: 4.1 instead of 5.6 GFLOP of the first."""
    planner = Planner(composed(f"experiment={experiment}"))
    assert planner.plan(1).flops == pytest.approx(planner.plan(8).flops, rel=0.03)
