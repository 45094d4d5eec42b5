"""Losses of all pairs: any number of real processes and any chunking give the loss and gradients of one big matrix."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from modalities.contrastive import Contrastive, info_nce
from modalities.encoder import Encoder
from modalities.layout import Layout
from modalities.objective import Step
from modalities.pairs import effective_rank
from modalities.siglip import SigLIP, sigmoid_loss
from modalities.views import Views, nt_xent
from pretrain.gradients import Gradients
from pretrain.model import Model
from pretrain.steps import TrainerStep

PAIRS, WIDTH, DIM = 12, 6, 8
KINDS = {"info_nce": Contrastive, "siglip": SigLIP, "views": lambda dim: Views(WIDTH, dim)}


class Dense(Encoder):
    """An encoder of plain vectors."""

    modality = "vector"

    def __init__(self):
        super().__init__(WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.calls = 0

    def forward(self, inputs):
        self.calls += 1
        return self.layer(inputs).tanh(), Layout([1] * len(inputs))


def build(kind):
    torch.manual_seed(0)
    encoders, objective = {"a": Dense(), "b": Dense()}, KINDS[kind](DIM)
    objective.connect(encoders)
    with torch.no_grad():  # where every pair has a say
        if kind != "views":
            objective.logit_scale.fill_(1.0)
        if kind == "siglip":
            objective.logit_bias.fill_(-1.0)
    generator = torch.Generator().manual_seed(1)
    data = {side: torch.randn(PAIRS, WIDTH, generator=generator) for side in ("a", "b")}
    return nn.ModuleDict(encoders), objective, data


def step_of(kind, step, rank, world_size, micro):
    encoders, objective, data = build(kind)
    share = torch.arange(PAIRS).chunk(world_size)[rank]
    batches = [{s: data[s][part] for s in data} | {"size": len(part)} for part in share.split(micro)]
    metrics = objective.step(dict(encoders), batches, step, 0.7)
    named = dict(nn.ModuleList([encoders, objective]).named_parameters())
    return {n: float(v) for n, v in metrics.items()}, {n: p.grad for n, p in named.items()}


def big_matrix(kind):
    """Loss and gradients by one formula over all rows, without any of the machinery."""
    encoders, objective, data = build(kind)
    heads = {s: objective.head if kind == "views" else encoders[s].projections[str(DIM)] for s in data}
    rows = [F.normalize(heads[s](encoders[s].layer(data[s]).tanh()), dim=-1) for s in data]
    losses = {
        "info_nce": lambda: info_nce(*rows, objective.logit_scale.exp()),
        "siglip": lambda: sigmoid_loss(*rows, objective.logit_scale.exp(), objective.logit_bias),
        "views": lambda: nt_xent(*rows, objective.temperature),
    }
    loss = losses[kind]()[0]
    (0.7 * loss / PAIRS).backward()
    named = nn.ModuleList([encoders, objective]).named_parameters()
    return float(loss.detach()) / PAIRS, {n: p.grad for n, p in named}


def on_rank(rank, world_size, store, out, kind, micros):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    gradients, model = Gradients(torch.nn.Module(), rank, world_size), Model({}, {})
    module = SimpleNamespace(
        gradients=gradients,
        model=model,
        manual_backward=lambda loss: loss.backward(),
        seed=0,
        device=torch.device("cpu"),
    )
    found = {micro: step_of(kind, TrainerStep(module, 0, "t"), rank, world_size, micro) for micro in micros}
    torch.save(found, f"{out}-{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_and_chunks_equal_one_big_matrix(kind, world_size, tmp_path):
    loss, whole = big_matrix(kind)
    norm = torch.cat([g.flatten() for g in whole.values()]).norm()
    assert norm > 1e-2
    micros = (1, 2, 5, PAIRS)
    if world_size == 1:
        shares = [{micro: step_of(kind, Step(), 0, 1, micro) for micro in micros}]
    else:
        context = torch.multiprocessing.get_context("fork")
        arguments = (world_size, tmp_path / "store", tmp_path / "out", kind, micros)
        processes = [context.Process(target=on_rank, args=(rank, *arguments)) for rank in range(world_size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        shares = [torch.load(tmp_path / f"out-{rank}") for rank in range(world_size)]
    for micro in micros:
        for share in shares:
            assert share[micro][0]["loss"] == pytest.approx(loss, rel=1e-5)
        for name, expected in whole.items():
            total = sum(share[micro][1][name] for share in shares)
            assert (total - expected).norm() < 1e-5 * norm, (micro, name)
        if world_size > 1:  # and no process computes it all
            assert any((shares[0][micro][1][n] - g).norm() > 1e-2 * norm for n, g in whole.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("projected", [False, True])
def test_a_locked_tower_is_embedded_once_and_gets_no_gradient(kind, projected):
    encoders, objective, data = build(kind)
    _, expected = big_matrix(kind)
    encoders["a"].requires_grad_(False).eval()
    encoders["a"].projections.requires_grad_(projected)
    batches = [{s: data[s][part] for s in data} | {"size": 4} for part in torch.arange(PAIRS).split(4)]
    objective.step(dict(encoders), batches, Step(), 0.7)
    assert (encoders["a"].calls, encoders["b"].calls) == (3, 6)
    learned = {n for n, p in encoders["a"].named_parameters() if p.grad is not None}
    assert learned == ({f"projections.{DIM}.weight"} if projected and kind != "views" else set())
    found = {f"0.a.{n}": p.grad for n, p in encoders["a"].named_parameters() if n in learned}
    found |= {f"0.b.{n}": p.grad for n, p in encoders["b"].named_parameters()}
    found |= {f"1.{n}": p.grad for n, p in objective.named_parameters()}
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


def test_what_a_locked_tower_draws_changes_nothing_of_the_other():
    """A tower with dropout that is left in training mode is embedded once; the other one draws what it drew."""

    class Seeded(Step):
        def seed(self, micro):
            torch.manual_seed(micro)

    def both(micro, locked):
        """Gradients of the step, and of the loss over what all micro-batches give at once."""
        encoders, objective, data = build("info_nce")
        for encoder in encoders.values():
            encoder.layer = nn.Sequential(encoder.layer, nn.Dropout(0.5))
        encoders[locked].layer.requires_grad_(False)
        batches = [{s: data[s][part] for s in data} | {"size": len(part)} for part in torch.arange(PAIRS).split(micro)]
        objective.step(dict(encoders), batches, Seeded(), 1.0)
        seen = [p.grad for p in encoders.parameters() if p.requires_grad]
        rows = []
        for n, batch in enumerate(batches):
            torch.manual_seed(n)
            rows.append(objective.embed(dict(encoders), batch)[0])
        whole = torch.cat(rows, 1)
        loss = info_nce(whole[0], whole[1], objective.scale())[0] / PAIRS
        trained = [p for p in encoders.parameters() if p.requires_grad]
        return seen, list(torch.autograd.grad(loss, trained))

    for locked in ("a", "b"):
        torch.testing.assert_close(*both(4, locked))


@pytest.mark.parametrize("micro", [4, PAIRS])
def test_with_both_towers_locked_the_temperature_still_learns(micro):
    encoders, objective, data = build("siglip")
    encoders.requires_grad_(False).eval()
    batches = [{s: data[s][part] for s in data} | {"size": micro} for part in torch.arange(PAIRS).split(micro)]
    objective.step(dict(encoders), batches, Step(), 1.0)
    assert float(objective.logit_scale.grad.abs()) > 0
    assert float(objective.logit_bias.grad.abs()) > 0


@pytest.mark.parametrize(("pairs", "width"), [(6, 32), (36, 6)])
def test_effective_rank_counts_dimensions(pairs, width):
    torch.manual_seed(0)
    alike = F.normalize(torch.randn(width), dim=0).expand(pairs, width)
    assert float(effective_rank(alike)) == pytest.approx(1, rel=1e-5)
    spread = torch.eye(width)[torch.arange(pairs) % width]
    assert float(effective_rank(spread)) == pytest.approx(min(pairs, width), rel=1e-5)
    rows = F.normalize(torch.randn(pairs, width), dim=-1)
    squared = torch.linalg.svdvals(rows).square()
    assert float(effective_rank(rows)) == pytest.approx(float(squared.sum() ** 2 / squared.square().sum()), rel=1e-4)


@pytest.mark.parametrize("micro", [4, PAIRS])
def test_gradients_of_similarities_are_not_rounded_by_autocast(micro):
    """Products in bfloat16 have three digits; only those of the encoders may be."""

    class Straight(Dense):
        def forward(self, inputs):
            return inputs * self.layer.bias, Layout([1] * len(inputs))  # a product that autocast leaves alone

    def gradient(on):
        _, objective, data = build("info_nce")
        torch.manual_seed(2)
        encoders = {side: Straight() for side in data}
        objective.connect(encoders)
        for encoder in encoders.values():
            encoder.projections = nn.ModuleDict({str(DIM): nn.Identity()})
        module = SimpleNamespace(
            gradients=Gradients(nn.Module(), 0, 1),
            model=Model({}, {}),
            manual_backward=lambda loss: loss.backward(),
            seed=0,
            device=torch.device("cpu"),
        )
        batches = [{s: data[s][part] for s in data} | {"size": micro} for part in torch.arange(PAIRS).split(micro)]
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            objective.step(encoders, batches, TrainerStep(module, 0, "t"), 1.0)
        return [encoder.layer.bias.grad for encoder in encoders.values()]

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-5, atol=1e-7)
