import torch
from torch import nn

from pretrain.evaluation.measure import measure
from pretrain.model import Model


def test_measuring_draws_nothing_and_leaves_no_trace():
    model = Model({}, {})
    model.layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    rows = torch.randn(16, 8)

    def evaluator(measured):
        found = measured.layer(rows)
        assert not found.requires_grad
        return {"sum": {"value": float(found.sum())}}

    before = torch.get_rng_state()
    expected = float((rows @ model.layer[0].weight.T + model.layer[0].bias).sum())
    for _ in range(2):
        assert abs(measure(model, [evaluator])["sum"]["value"] - expected) < 1e-4
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in model.modules())
