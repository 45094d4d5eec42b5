"""Loss and gradient of a step are those of the whole global batch, however it is split; for each default task."""

from __future__ import annotations

import pytest

from data.loading.loader import StepLoader, TaskData
from modalities.objective import Step
from pretrain import config
from pretrain.model import build_model
from pretrain.storage import open_store
from pretrain.streams import open_streams
from tests.integration.runs import SMALL

BATCH = 8
OVERRIDES = [*SMALL, *(f"encoders.{name}.dropout=0" for name in ("text", "image", "audio"))]


@pytest.mark.parametrize("name", ["mlm", "clip", "clap", "wav2vec"])
def test_splits_change_nothing(name: str) -> None:
    composed = config.load(OVERRIDES)
    if composed["data"]["builder"]:
        from pretrain.build import make

        make(composed["data"]["builder"], "data.builder").ensure()
    model = build_model(composed)
    stream, task = open_streams(composed, model, open_store(composed))[name], model.tasks[name]
    results = []
    for micro in (BATCH, BATCH // 2, BATCH // 4):
        model.zero_grad()
        data = TaskData(stream, task.prepare, BATCH, micro)
        batches = next(iter(StepLoader({name: data}, 0, 1))).tasks[name]
        assert len(batches) == BATCH // micro
        metrics = task.objective.step(model.sides(task.sides), batches, Step(0), 1.0)
        grads = {n: p.grad.double().clone() for n, p in model.named_parameters() if p.grad is not None}
        results.append((float(metrics["loss"]), grads))
    (loss, whole), *splits = results
    norm = sum(float(g.square().sum()) for g in whole.values()) ** 0.5
    for other, grads in splits:
        assert other == pytest.approx(loss, rel=1e-6)
        assert grads.keys() == whole.keys()
        error = sum(float((grads[n] - whole[n]).square().sum()) for n in whole) ** 0.5
        assert error < 1e-6 * norm
        # Rounding weighs more where a small gradient is the difference of large ones, but no tensor may be wrong.
        for n, grad in whole.items():
            assert float((grads[n] - grad).norm()) < 1e-4 * float(grad.norm()) + 1e-9 * norm, n
