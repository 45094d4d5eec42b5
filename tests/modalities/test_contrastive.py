import math

import pytest
import torch
import torch.nn.functional as F

from data.errors import InputError
from modalities.contrastive import MAX_LOGIT_SCALE, Contrastive, info_nce, recall
from modalities.objective import Step


def unit(n, seed, width=8):
    return F.normalize(torch.randn(n, width, generator=torch.manual_seed(seed), dtype=torch.float64), dim=-1)


class Fixed(torch.nn.Module):
    """An encoder whose embeddings are its parameters."""

    modality = "text"

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows)
        self.projections = torch.nn.ModuleDict({str(rows.shape[1]): torch.nn.Identity()})

    def pooled(self, inputs):
        return self.rows[inputs]


def test_loss_is_that_of_a_plain_loop():
    a, b, scale = unit(7, 0), unit(7, 1), torch.tensor(5.0, dtype=torch.float64)
    expected, hits = 0.0, 0.0
    for i in range(7):
        for x, others in ((a[i], b), (b[i], a)):
            logits = [float(scale * (x @ other)) for other in others]
            expected += (math.log(sum(map(math.exp, logits))) - logits[i]) / 2
            hits += (max(range(7), key=logits.__getitem__) == i) / 2
    loss, found = info_nce(a, b, scale)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(found) == hits


def test_recall_of_ordered_tied_and_broken_encoders():
    a = unit(6, 0)
    assert recall(a, a, "x", "y") == {
        "x_to_y_recall@1": {"value": 1.0, "chance": 1 / 6},
        "y_to_x_recall@1": {"value": 1.0, "chance": 1 / 6},
    }
    # All alike, and not a number: nothing is found.
    for collapsed in (a[:1].expand(6, -1), torch.full((6, 8), float("nan"), dtype=torch.float64)):
        assert all(score["value"] == 0 for score in recall(collapsed, collapsed, "x", "y").values())
    # Two equal captions: their pictures are not found, those of the other four are.
    b = a.clone()
    b[1] = b[0]
    both = recall(a, b, "image", "text")
    assert both["image_to_text_recall@1"]["value"] == pytest.approx(4 / 6)  # 0 ties with 1; 1 finds neither
    assert recall(a, b, "image", "text", k=2)["image_to_text_recall@2"]["value"] >= 5 / 6


def test_recall_of_two_views_of_one_modality_is_the_mean_of_both_ways():
    a, b = unit(6, 0), unit(6, 0)
    b[:3] = a[0]  # of these the first of a finds three that are alike, that of b its own
    ways = recall(a, b, "x", "y")
    one, other = (ways[f"{way}_recall@1"]["value"] for way in ("x_to_y", "y_to_x"))
    assert one != other
    both = {"image_to_image_recall@1": {"value": pytest.approx((one + other) / 2), "chance": 1 / 6}}
    assert recall(a, b, "image", "image") == both


def test_recall_at_k_of_a_known_ranking():
    angles = torch.tensor([0.0, 0.3, 0.9, 1.8])
    a = torch.stack([angles.cos(), angles.sin()], 1)
    b = a.roll(-1, 0)  # the partner of each is the next one's place
    found = [recall(a, b, "x", "y", k)[f"x_to_y_recall@{k}"] for k in (1, 2, 3, 4)]
    reference = []
    for k in (1, 2, 3, 4):
        order = (a @ b.T).argsort(1, descending=True)[:, :k]
        reference.append(float((order == torch.arange(4)[:, None]).any(1).float().mean()))
    assert [score["value"] for score in found] == reference
    assert [score["chance"] for score in found] == [0.25, 0.5, 0.75, 1.0]


def test_the_temperature_comes_back_from_its_bound():
    objective = Contrastive(8, temperature=0.01)
    assert float(objective.scale().detach()) == pytest.approx(100)
    with torch.no_grad():
        objective.logit_scale += 0.5  # where an optimizer's step may take it
    encoders = {"a": Fixed(unit(6, 0).float()), "b": Fixed(unit(6, 1).float())}  # unrelated: 100 is far too sure
    batch = {"a": slice(None), "b": slice(None), "size": 6}
    found = objective.step(encoders, [batch], Step(), 1.0)
    assert float(objective.logit_scale.detach()) == pytest.approx(MAX_LOGIT_SCALE)
    assert float(found["temperature"]) == pytest.approx(0.01)
    assert float(objective.logit_scale.grad) > 0
    with pytest.raises(InputError, match=r"temperature=0.001"):
        Contrastive(8, temperature=0.001)


def test_autocast_does_not_reach_the_similarities():
    a, b, scale = unit(20, 0).float(), unit(20, 1).float(), torch.tensor(90.0)
    expected, ranked = info_nce(a, b, scale)[0], recall(a, a + 1e-3 * b, "x", "y")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(a, b, scale)[0], expected)
        assert recall(a, a + 1e-3 * b, "x", "y") == ranked
        assert info_nce(a.requires_grad_(), b, scale)[0].dtype == torch.float32


def test_ranks_add_up_to_one_process_and_gather_once():
    a, b = unit(8, 0).float(), unit(8, 1).float()

    class Rank(Step):
        world_size = 2

        def __init__(self, rank):
            super().__init__()
            self.rank, self.gathered = rank, 0

        def all_gather(self, x):
            self.gathered += 1
            torch.testing.assert_close(x, torch.stack([a, b], 1)[4 * self.rank : 4 * self.rank + 4])
            return torch.stack([a, b], 1)

    def grads(step, rows):
        objective, encoders = Contrastive(8), {"a": Fixed(a.clone()), "b": Fixed(b.clone())}
        batches = [{"a": part, "b": part, "size": len(part)} for part in rows]
        objective.step(encoders, batches, step, 0.5)
        return [encoders["a"].rows.grad, encoders["b"].rows.grad, objective.logit_scale.grad]

    whole = grads(Step(), [torch.arange(8)])
    ranks = [Rank(0), Rank(1)]
    shares = [grads(step, torch.arange(4 * step.rank, 4 * step.rank + 4).split(3)) for step in ranks]
    for expected, *found in zip(whole, *shares, strict=True):
        torch.testing.assert_close(sum(found), expected)
    assert [step.gathered for step in ranks] == [1, 1]
