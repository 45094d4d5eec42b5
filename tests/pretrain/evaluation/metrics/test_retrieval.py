"""Retrieval against open_clip's own formula (open_clip_train/train.py, get_clip_metrics), on fixed embeddings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modalities.pairs import recall as recall_of_pairs
from pretrain.evaluation.metrics.retrieval import ahead, chance, recall


def pairs(seed, count=97, features=16, noise=1.2):
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((count, features)).astype(np.float32)
    return a, (a + noise * draw.standard_normal(a.shape)).astype(np.float32)


def open_clip(image_features, text_features):
    logits_per_image = (100.0 * image_features @ text_features.t()).detach()
    logits_per_text = logits_per_image.t()
    found = {}
    for name, logit in (("a", logits_per_image), ("b", logits_per_text)):
        ground_truth = torch.arange(len(text_features)).view(-1, 1)
        ranking = torch.argsort(logit, descending=True)
        preds = torch.where(ranking == ground_truth)[1].numpy()
        for k in [1, 5, 10]:
            found[name, k] = float(np.mean(preds < k))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_recall_equals_open_clip_exactly(seed):
    a, b = pairs(seed)
    expected = open_clip(*(F.normalize(torch.from_numpy(x), dim=-1) for x in (a, b)))
    for name, (one, other) in {"a": (a, b), "b": (b, a)}.items():
        found = recall(one, other)
        assert {(name, k): value for k, (value, _) in found.items()} == {
            key: value for key, value in expected.items() if key[0] == name
        }
        assert 0.05 < found[1][0] < found[5][0] < found[10][0] < 1  # it could have been wrong


def test_recall_equals_that_of_the_training_objective():
    a, b = pairs(3)
    rows = [F.normalize(torch.from_numpy(x), dim=-1) for x in (a, b)]
    expected = recall_of_pairs(*rows, "a", "b", 5)
    assert recall(a, b)[5] == pytest.approx(tuple(expected["a_to_b_recall@5"].values()))
    assert recall(b, a)[5] == pytest.approx(tuple(expected["b_to_a_recall@5"].values()))


def test_any_of_a_group_is_right():
    a = np.eye(4)
    b = a[[1, 0, 2, 3]]
    assert recall(a, b)[1][0] == 0.5
    assert recall(a, b, ["x", "x", "y", "z"])[1][0] == 1.0


def test_a_tie_finds_nothing_nor_does_a_nan():
    alike = np.ones((8, 4))
    assert recall(alike, alike)[1][0] == recall(alike, alike)[5][0] == 0
    similarity = np.array([[0.5, np.nan, 0.1]])
    assert ahead(similarity, np.array([[True, False, False]])) == [1]


def test_chance_is_what_random_embeddings_find():
    draw = np.random.default_rng(0)
    groups = [str(n) for n in draw.integers(0, 12, 60)]
    names = np.unique(groups, return_inverse=True)[1]
    found = np.mean(
        [
            [recall(draw.standard_normal((60, 5)), draw.standard_normal((60, 5)), groups)[k][0] for k in (1, 5)]
            for _ in range(200)
        ],
        axis=0,
    )
    assert found == pytest.approx([chance(names, 1), chance(names, 5)], abs=0.02)
    assert chance(np.arange(10), 10) == 1
    assert chance(np.arange(10), 3) == pytest.approx(0.3)
