"""One step before the first one: it finds what cannot be computed, and leaves nothing behind."""

import random

import numpy as np
import pytest
import torch

from data.errors import InputError
from data.store.store import Store
from pretrain import trial
from pretrain.build import make
from pretrain.model import build_model
from pretrain.plan.batches import draw
from pretrain.streams import open_streams
from pretrain.trial import try_step, worth_it
from tests.pretrain.embedding.small import SMALL, composed


@pytest.fixture(scope="module")
def tried(evaluated, tmp_path_factory, tokenizer_path):
    """(config, model, task -> batch of two)."""
    tasks = ("mlm", "clip", "clap", "wav2vec")
    given = [f"tasks.{task}.{part}={evaluated.source}" for task in tasks for part in ("source", "heldout")]
    config = composed(tmp_path_factory.mktemp("trial"), tokenizer_path, [*SMALL, "~evaluators.image_audio", *given])
    model = build_model(config).train()
    streams = open_streams(config, model, Store())
    return config, model, {name: draw(streams[name], task.prepare, 2).batch(2) for name, task in model.tasks.items()}


def everything(model, optimizer):
    """All that the next step depends on, as bytes."""
    found = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = str(optimizer.state_dict())
    numbers = torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes()
    return found, modes, state, numbers, [parameter.grad for parameter in model.parameters()]


def test_everything_is_as_it_was(tried):
    config, model, batches = tried
    optimizer = make(config["optimizer"], "optimizer", (), parameters=list(model.named_parameters()), device="cpu")
    before = everything(model, optimizer)
    for task, batch in batches.items():
        try_step(model, task, batch)
    assert everything(model, optimizer) == before


@pytest.mark.parametrize("task", ["mlm", "clip", "clap", "wav2vec"])
def test_what_cannot_be_computed_is_said_with_its_place(tried, task):
    _, model, batches = tried
    encoder = next(iter(model.tasks[task].sides.values()))
    layer = model.encoders[encoder].trunk.blocks[0].mlp_in
    whole, before = layer.weight, torch.get_rng_state()
    layer.weight = torch.nn.Parameter(whole[:, :-1].detach())
    try:
        said = rf"^task '{task}': a step on 2 samples cannot be computed: RuntimeError in .*:\d+: mat1 and mat2"
        with pytest.raises(InputError, match=said):
            try_step(model, task, batches[task])
    finally:
        layer.weight = whole
    assert torch.equal(torch.get_rng_state(), before)


def test_large_and_compiled_models_are_not_tried(tried, monkeypatch):
    config, model, _ = tried
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert worth_it(config, model)
    assert not worth_it({**config, "trainer": {**config["trainer"], "compile": True}}, model)
    monkeypatch.setattr(trial, "LARGEST", 10)
    assert not worth_it(config, model)
