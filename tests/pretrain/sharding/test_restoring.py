"""A state goes from any division between processes to any other, bit for bit."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from data.errors import InputError
from pretrain.checkpoint import Content, Reader, publish
from pretrain.sharding.pieces import ema_pieces, model_pieces, optimizer_pieces
from pretrain.sharding.restoring import load_weights, restore_from
from tests.spread import STILL, Plan, build, outcome, run, spread, train

KINDS = ("model", "optimizer", "ema")
ONE_STEP = {"steps": 1, "tasks": [["mlm", "clip"]]}


def pieces(plan, rank, world_size):
    parts = build(plan, rank, world_size)
    train(plan, parts)
    found = (
        model_pieces(parts.model),
        optimizer_pieces(parts.optimizer, parts.model),
        ema_pieces(parts.ema),
    )
    boxes = [{n: (p.shape, p.offset, p.tensor.clone()) for n, p in kind.items()} for kind in found]
    return dict(zip(KINDS, boxes, strict=True)), outcome(parts, [])


def restored(plan, place, rank, world_size):
    parts = build(plan, rank, world_size)
    train(Plan(mesh=plan.mesh, overrides=plan.overrides, steps=1, tasks=[["mlm"]]), parts)  # what is there is replaced
    restore_from(Reader(place), parts.model, parts.optimizer, parts.ema)
    return outcome(parts, []) | {"further": outcome(parts, train(plan, parts, first=1))}


@pytest.fixture
def saved(tmp_path):
    found = run(Plan(**ONE_STEP))
    place = publish(
        tmp_path / "checkpoints",
        Content(found["model"], found["optimizer"], {"step": 1, "positions": {}}, found["ema"]),
    )
    return place, found


def test_pieces_are_boxes_that_make_up_the_whole(tmp_path):
    ranks = spread(2, tmp_path, partial(pieces, Plan(mesh=(2,), **ONE_STEP)))
    for kind in KINDS:
        for name, right in ranks[0][1][kind].items():
            joined, filled = torch.full_like(right, torch.nan), 0
            for boxes, _ in ranks:
                shape, offset, tensor = boxes[kind][name]
                assert shape == tuple(right.shape)
                joined[tuple(slice(o, o + n) for o, n in zip(offset, tensor.shape, strict=True))] = tensor
                filled += tensor.numel()
            assert torch.equal(joined, right), name
            assert filled == right.numel() * (1 if right.ndim else 2)
    rows = [boxes["model"]["encoders.text.token_embedding.weight"][2].shape[0] for boxes, _ in ranks]
    assert rows == [160, 160]


@pytest.mark.parametrize(("world_size", "mesh"), [(1, ()), (2, (2,)), pytest.param(4, (2, 2), marks=pytest.mark.slow)])
def test_a_checkpoint_fits_any_division(saved, tmp_path, world_size, mesh):
    place, right = saved
    plan = Plan(mesh=mesh, overrides=STILL, steps=1, tasks=[["clip"]])
    ranks = (
        [restored(plan, place, 0, 1)]
        if world_size == 1
        else spread(world_size, tmp_path / "ranks", partial(restored, plan, place))
    )
    for found in ranks:
        for kind in KINDS:
            assert found[kind].keys() == right[kind].keys()
            assert all(torch.equal(found[kind][name], t) for name, t in right[kind].items())
        moved = [n for n, t in right["model"].items() if not torch.equal(found["further"]["model"][n], t)]
        assert any(name.startswith("encoders.image") for name in moved)


def test_weights_alone(saved, tmp_path):
    _, right = saved

    def work(rank, world_size):
        parts = build(Plan(mesh=(2,)), rank, world_size)
        load_weights(parts.model, {n: t for n, t in right["model"].items() if n.startswith("encoders.text")})
        return outcome(parts, [])["model"]

    before = run(Plan(steps=0))["model"]
    for found in spread(2, tmp_path / "ranks", work):
        for name, tensor in found.items():
            assert torch.equal(tensor, (right["model"] if name.startswith("encoders.text") else before)[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.model.pop("encoders.text.trunk.norm.weight"), "lacks 'encoders.text.trunk.norm.weight'"),
        (lambda c: c.model.update(other=torch.ones(2)), "has 'other', which this model lacks"),
        (lambda c: c.model.update({"objectives.clip.logit_scale": torch.ones(2)}), "another model size"),
        (lambda c: c.optimizer.pop("encoders.text.trunk.norm.weight/exp_avg"), "another optimizer"),
    ],
)
def test_another_model_is_refused(saved, tmp_path, change, message):
    _, found = saved
    content = Content(dict(found["model"]), dict(found["optimizer"]), {"step": 2, "positions": {}}, {})
    change(content)
    parts = build(Plan(), 0, 1)
    with pytest.raises(InputError, match=message):
        restore_from(Reader(publish(tmp_path / "checkpoints", content)), parts.model, parts.optimizer)
