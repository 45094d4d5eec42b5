import math

import pytest
import torch
import torch.nn.functional as F

from data.errors import InputError
from modalities.objective import Step
from modalities.siglip import SigLIP, sigmoid_loss
from tests.modalities.test_contrastive import Fixed, unit


def test_loss_is_eq_1_written_as_loops():
    a, b = unit(7, 0), unit(7, 1)
    scale, bias = torch.tensor(8.0, dtype=torch.float64), torch.tensor(-3.0, dtype=torch.float64)
    expected = 0.0
    for i in range(7):
        for j in range(7):
            z = 1 if i == j else -1
            expected -= math.log(1 / (1 + math.exp(z * (-8 * float(a[i] @ b[j]) + 3))))
    assert float(sigmoid_loss(a, b, scale, bias)[0]) == pytest.approx(expected, rel=1e-12)


def test_it_begins_as_the_paper_says():
    objective = SigLIP(8)
    assert float(objective.logit_scale.detach()) == pytest.approx(math.log(10))
    assert float(objective.logit_bias.detach()) == -10
    with pytest.raises(InputError, match="temperature=0"):
        SigLIP(8, temperature=0)


def test_large_logits_stay_finite():
    a = unit(4, 0).float()
    loss, _ = sigmoid_loss(a, -a, torch.tensor(500.0), torch.tensor(0.0))
    assert torch.isfinite(loss)
    assert float(loss) >= 4 * 500


def test_chance_is_the_best_constant():
    n = 16
    logits = torch.linspace(-8, 2, 2001, dtype=torch.float64)
    best = (F.softplus(-logits) + (n - 1) * F.softplus(logits)).min()
    assert SigLIP(8).guess(n) == pytest.approx(float(best), abs=1e-5)


def test_equal_to_transformers_loss_and_gradients():
    siglip = pytest.importorskip("transformers.models.siglip")
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = siglip.SiglipConfig(
        text_config=vision | {"vocab_size": 30, "max_position_embeddings": 8, "projection_size": 16},
        vision_config=vision | {"image_size": 16, "patch_size": 8},
    )
    torch.manual_seed(0)
    theirs = siglip.SiglipModel(config)
    with torch.no_grad():
        theirs.logit_scale.fill_(math.log(10))
        theirs.logit_bias.fill_(-10)
    pixels, tokens = torch.randn(6, 3, 16, 16), torch.randint(1, 30, (6, 8))
    found = theirs(input_ids=tokens, pixel_values=pixels, return_loss=True)
    rows = [x.detach() for x in (found.image_embeds, found.text_embeds)]
    found.loss.backward()

    objective, encoders = SigLIP(16), {"a": Fixed(rows[0].clone()), "b": Fixed(rows[1].clone())}
    batch = {"a": slice(None), "b": slice(None), "size": 6}
    metrics = objective.step(encoders, [batch], Step(), 1.0)
    assert float(metrics["loss"]) == pytest.approx(float(found.loss), rel=1e-5)
    torch.testing.assert_close(objective.logit_scale.grad, theirs.logit_scale.grad.reshape(()))
    torch.testing.assert_close(objective.logit_bias.grad, theirs.logit_bias.grad.reshape(()))
    # Theirs for the rows before they are normalised: the parameters of the last layer see it.
    again = theirs(input_ids=tokens, pixel_values=pixels)
    ours = sigmoid_loss(again.image_embeds, again.text_embeds, objective.logit_scale.exp(), objective.logit_bias)[0]
    expected = theirs.text_model.head.weight.grad.clone()
    theirs.zero_grad()
    (ours / 6).backward()
    torch.testing.assert_close(theirs.text_model.head.weight.grad, expected)
