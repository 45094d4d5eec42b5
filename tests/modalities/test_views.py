import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from data.errors import InputError
from data.sample import Sample
from data.seeds import generator
from modalities.encoder import Encoder
from modalities.layout import Layout
from modalities.objective import Step
from modalities.views import TwoViews, Views, nt_xent
from tests.modalities.test_contrastive import unit


def test_loss_is_eq_1_written_as_loops():
    n, temperature = 6, 0.3
    views = torch.cat((unit(n, 0), unit(n, 1)))
    expected = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(math.exp(float(views[i] @ views[k]) / temperature) for k in range(2 * n) if k != i)
        expected -= math.log(math.exp(float(views[i] @ views[j]) / temperature) / others)
    loss, _ = nt_xent(views[:n], views[n:], temperature)
    assert float(loss) == pytest.approx(expected / 2, rel=1e-12)  # 2N terms, a loss a sample


def test_hits_are_samples_whose_views_are_each_others_nearest():
    a = unit(5, 0)
    assert float(nt_xent(a, a, 0.1)[1]) == 5
    assert float(nt_xent(a, a.roll(1, 0), 0.1)[1]) == 0


def test_chance_is_that_of_views_that_are_all_alike():
    alike = torch.ones(7, 4, dtype=torch.float64) / 2
    assert float(nt_xent(alike, alike, 0.2)[0]) / 7 == pytest.approx(Views(4, 4).guess(7))


class Noisy:
    """A prepare that draws from the generator, in training alone."""

    modality = "vector"
    needs: ClassVar = {}

    def __call__(self, sample, rng, training):
        return {"x": torch.from_numpy(np.frombuffer(sample.members["x"]) + training * rng.standard_normal(4))}

    def collate(self, items):
        return torch.stack([item["x"] for item in items]).float()


def test_views_differ_and_are_those_of_the_position():
    two = TwoViews(a=Noisy(), b=Noisy())
    sample = Sample("s.tar", "k", {"x": np.ones(4).tobytes()})
    for training in (True, False):  # held-out views are views too
        first, again, other = (two(sample, generator(seed), training) for seed in (0, 0, 1))
        assert not torch.equal(first["a"]["x"], first["b"]["x"])
        assert all(torch.equal(first[side]["x"], again[side]["x"]) for side in "ab")
        assert not torch.equal(first["a"]["x"], other["a"]["x"])


class Dense(Encoder):
    """An encoder of plain vectors."""

    modality = "vector"

    def __init__(self):
        super().__init__(4)
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs):
        return self.layer(inputs), Layout([1] * len(inputs))


def test_it_learns_what_views_share():
    torch.manual_seed(0)
    encoder, objective = Dense(), Views(4, 8)
    objective.connect({"a": encoder, "b": encoder})
    assert not encoder.projections  # the head is the objective's own
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], 1e-2)
    losses = []
    for _ in range(150):
        told, noise = torch.randn(32, 2), 3 * torch.randn(2, 32, 2)  # half of the features is the sample's own
        views = [torch.cat((told, part), 1) for part in noise]
        optimizer.zero_grad()
        batch = {"a": views[0], "b": views[1], "size": 32}
        losses.append(float(objective.step({"a": encoder, "b": encoder}, [batch], Step(), 1.0)["loss"]))
        optimizer.step()
    assert sum(losses[-10:]) / 10 < 0.6 * math.log(63)
    assert losses[0] > 0.9 * math.log(63)


class Other(Dense):
    modality = "other"


def test_views_are_of_one_modality_and_the_temperature_above_0():
    assert Views(4, 4).accept({"a": Dense(), "b": Dense()}) is None
    assert "other and vector" in Views(4, 4).accept({"a": Dense(), "b": Other()})
    with pytest.raises(InputError, match="temperature=0"):
        Views(4, 4, temperature=0)
