"""Deep trunks that are planned by shallow ones: exactly what all of their blocks come to."""

import pytest

from pretrain import config
from pretrain.plan import plan as planning
from pretrain.plan.batches import units
from pretrain.plan.depth import Deep, deep_trunks, rehearse_deep
from pretrain.plan.plan import Planner
from pretrain.plan.rehearsal import rehearse, shares_of
from pretrain.trunks import set_trunks


def composed(*overrides):
    return config.load(list(overrides), None)


@pytest.mark.parametrize(
    ("overrides", "deep"),
    [
        # Gradients are the height of memory in the one, activations in the other.
        (["clm_tiny", "tasks.clm.batch_size=1", "encoders.text.depth=6"], [Deep("text", 2, 1, 4)]),
        (["clm_tiny", "tasks.clm.batch_size=4", "encoders.text.depth=5"], [Deep("text", 2, 1, 3)]),
        pytest.param(
            ["mlm_tiny", "tasks.mlm.batch_size=2", "encoders.text.depth=10", "+encoders.text.trunk.window=8"],
            [Deep("text", 4, 3, 2)],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [
                *("clip_tiny", "tasks.clip.batch_size=4", "micro_batch_size=2", "trainer.checkpoint_blocks=2"),
                *("encoders.text.depth=7", "encoders.image.depth=8", "ema.decay=0.9"),
            ],
            [Deep("text", 3, 2, 2), Deep("image", 2, 2, 3)],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_shallow_rehearsal_extended_equals_the_whole_one(overrides, deep):
    settings = composed(f"experiment={overrides[0]}", *overrides[1:])
    drawn = Planner(settings).drawn

    def step(settings):
        return rehearse(settings, drawn, 1, shares_of(settings, 1, settings["micro_batch_size"]))

    whole, found = step(settings), rehearse_deep(settings, deep, step)
    for name in ("flops", "weights", "gradients", "optimizer", "averages", "most", "checkpoint", "parameters"):
        assert getattr(found, name) == getattr(whole, name), name
    assert found.inference == whole.inference
    assert sorted(found.apart) == sorted(whole.apart)


def test_which_trunks_are_worth_it():
    def found(*overrides):
        settings = composed(*overrides)
        model = Planner(settings).model
        set_trunks(model.encoders, {**settings["trainer"], "compile": False})
        return deep_trunks(settings, model)

    assert found("experiment=clm_tiny", "encoders.text.depth=24") == [Deep("text", 2, 1, 22)]
    assert found("experiment=clm_tiny", "encoders.text.depth=33", "trainer.checkpoint_blocks=5") == [
        Deep("text", 3, 5, 6)
    ]
    assert found("experiment=clm_tiny", "encoders.text.depth=4") == []
    assert found("experiment=clm_tiny", "encoders.text.depth=24", "+encoders.text.trunk.layer_drop=0.1") == []


def test_a_billion_parameters_are_planned_by_a_few_blocks(monkeypatch):
    settings = composed(
        *("experiment=clm_tiny", "tasks.clm.batch_size=2"),
        *("encoders.text.width=1536", "encoders.text.depth=36", "encoders.text.heads=16"),
    )
    depths = []

    def noted(shallow, *given):
        depths.append(shallow["encoders"]["text"]["depth"])
        return rehearse(shallow, *given)

    monkeypatch.setattr(planning, "rehearse", noted)
    planner = Planner(settings)
    found = planner.plan(None)
    assert depths == 2 * [2, 3]  # and with samples enough for FLOPs
    blocks = 36 * (12 * 1536**2 + 13 * 1536)
    assert sum(found.parameters.values()) == pytest.approx(blocks, rel=0.01)
    assert found.memory.weights == pytest.approx(4 * sum(found.parameters.values()), rel=1e-3)
    assert found.memory.optimizer == pytest.approx(2 * found.memory.weights, rel=1e-3)
    tokens = units(planner.drawn["clm"].fewer(16).batch(16), {})["tokens"] / 8
    assert found.flops == pytest.approx(6 * blocks * tokens, rel=0.1)  # and attention, and the vocabulary
