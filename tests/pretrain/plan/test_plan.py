"""What a plan says beside what a real step takes, measured by torch's own counters."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from data.errors import InputError
from data.loading.loader import StepLoader, TaskData
from data.store.bytesize import parse_size
from modalities.initialisation import RECIPES
from modalities.objective import Step
from pretrain import config
from pretrain.build import make
from pretrain.cli import main
from pretrain.model import build_model
from pretrain.plan.plan import Planner
from pretrain.plan.rehearsal import fake_model, rehearse, shares_of
from pretrain.sharding.norms import clip
from pretrain.storage import open_store
from pretrain.streams import open_streams
from pretrain.trunks import set_trunks

COUNTED, PROFILED = 8, 4  # steps; sizes of samples differ, and a mean takes some
# Torch's counter does not know the product that sums onto what is there.
_SUMMED_ONTO = {torch.ops.aten.addmm_: lambda onto, a, b, **_: 2 * a[0] * a[1] * b[1]}


def composed(*overrides):
    return config.load(list(overrides), None)


def measured(settings):
    """FLOPs of each of a few real steps, and the most bytes that each held at once beside what lived before it."""
    torch.set_num_threads(1)
    model = build_model(settings).train()
    set_trunks(model.encoders, settings["trainer"])
    streams = open_streams(settings, model, open_store(settings))
    micro = settings["micro_batch_size"]
    tasks = {
        name: TaskData(streams[name], task.prepare, settings["tasks"][name]["batch_size"], micro)
        for name, task in model.tasks.items()
    }
    optimizer = make(settings["optimizer"], "optimizer", (), parameters=list(model.named_parameters()), device="cpu")
    flops, most = [], []
    for batch in StepLoader(tasks, 0, COUNTED + PROFILED, workers=0):
        counted = batch.step < COUNTED  # a counter's own tensors are not to be measured
        counter = FlopCounterMode(display=False, custom_mapping=_SUMMED_ONTO)
        if not counted:
            counter = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        with counter as seen:
            for name, task in model.tasks.items():
                task.objective.step(model.sides(task.sides), batch.tasks[name], Step(batch.step), 1.0)
            clip([p for p in model.parameters() if p.grad is not None], settings["gradient_clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        if counted:
            flops.append(seen.get_total_flops())
        else:
            most.append(height(seen))
    return sum(flops) / COUNTED, sum(most) / PROFILED, optimizer, model


def height(seen):
    """The most bytes allocated at once, by the allocator's own record."""
    now = most = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("mlm_tiny", []),
        pytest.param("clm_tiny", [], marks=pytest.mark.slow),
        pytest.param("clip_tiny", [], marks=pytest.mark.slow),
        ("clip_tiny", ["micro_batch_size=16", "trainer.checkpoint_blocks=all"]),
        ("wav2vec2_tiny", []),
    ],
)
def test_flops_within_5_and_memory_within_15_percent_of_a_real_step(experiment, overrides):
    settings = composed(f"experiment={experiment}", *overrides)
    found = Planner(settings).plan(settings["micro_batch_size"])
    flops, most, optimizer, model = measured(settings)
    memory = found.memory
    assert found.flops == pytest.approx(flops, rel=0.05)
    assert memory.gradients + memory.activations == pytest.approx(most, rel=0.15)
    assert memory.weights == sum(p.numel() * 4 for p in [*model.parameters(), *model.buffers()])
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    assert memory.optimizer == sum(t.numel() * t.element_size() for t in state)


def test_each_fault_is_named_at_once(capsys):
    given = ["experiment=grounded_tiny", "trainer.devices=3", "tasks.mlm.source=/nowhere/*.tar"]
    given += ["tasks.clip.heldout=/nowhere/val.tar", "--json"]
    assert main(["plan", *given]) == 2
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert len(faults) == 5  # no shards for two tasks, no even share of three: 3 divides 48
    assert "source 'clip.heldout': shards '/nowhere/val.tar' match nothing" in faults[1]
    assert "/nowhere" in faults[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.warmup_steps=-5"], "warmup_steps=-5"),
        (["evaluate.ema=true"], "evaluate.ema=true needs averaged weights"),
        (["+evaluators.x=null"], "evaluators.x lacks _target_"),
        (["+logger.x._target_=pretrain.demo.Demo"], "logger.x"),
        (["checkpoint.keep_best.count=2"], "checkpoint.keep_best.count needs a held-out metric"),
        (["init_from=/nowhere"], "init_from '/nowhere' does not exist"),
        (["trainer.deterministic=exact", "trainer.devices=2", "tasks.mlm.batch_size=6"], "exact_micro_batch_size=4"),
    ],
)
def test_settings_that_a_run_refuses_are_faults(capsys, overrides, message):
    assert main(["plan", "experiment=mlm_tiny", "--tflops", "1", "--json", *overrides]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert message in fault


def test_samples_at_once_are_what_each_task_says():
    planner = Planner(composed("experiment=mlm_tiny", "tasks.mlm.micro_batch_size=2"))
    assert planner.plan(None).memory == planner.plan(2).memory
    assert planner.plan(None).micro_batch_size == 2
    planner = Planner(composed("experiment=mlm_tiny", "trainer.deterministic=exact"))
    assert planner.plan(None).micro_batch_size == 4
    planner = Planner(composed("experiment=clip_tiny", "+task@tasks.mlm=mlm", "tasks.mlm.micro_batch_size=2"))
    found = planner.plan(None)
    assert found.micro_batch_size is None
    assert "samples computed at once differ by task: clip all, mlm 2" in found.remarks


def test_checkpoints_that_stay_by_their_step_need_room():
    few, many = (
        Planner(composed("experiment=mlm_tiny", "max_steps=100", f"checkpoint.keep_every_n_steps={every}")).plan(None)
        for every in ("null", 10)
    )
    assert many.disk == few.disk + 10 * few.checkpoint


@pytest.mark.slow
def test_small_micro_batches_lie_between_medium_and_largest_samples():
    settings = composed("experiment=mlm_tiny", "micro_batch_size=8")
    planner = Planner(settings)
    medium, largest = (planner.plan(8, largest=one).memory for one in (False, True))
    _, most, _, _ = measured(settings)
    assert 0.85 * (medium.gradients + medium.activations) < most < 1.15 * (largest.gradients + largest.activations)
    assert medium.activations < largest.activations


def test_fits_finds_the_largest_micro_batch_and_says_what_it_tried(capsys):
    given = [
        "plan",
        "experiment=mlm_tiny",
        "tasks.mlm.batch_size=2",
        "--tflops",
        "1",
        "--price",
        "2",
        "--json",
        "--fits",
    ]
    assert main([*given, "1TB"]) == 0
    whole = json.loads(capsys.readouterr().out)["tried"]
    assert [one["micro_batch_size"] for one in whole] == [2]
    limit = whole[0]["most"] - 1
    assert main([*given, str(limit)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["most"] <= limit for one in found["tried"]] == [False] * (len(found["tried"]) - 1) + [True]
    assert found["seconds"] == pytest.approx(found["max_steps"] * found["flops"] / 1e12)
    assert found["cost"] == pytest.approx(2 * found["seconds"] / 3600)
    assert main([*given, "1MB"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert [(one["micro_batch_size"], one["checkpoint_blocks"]) for one in found["tried"]] == [
        (2, None),
        (2, "all"),
        (1, None),
        (1, "all"),
    ]


def test_a_divided_model_takes_less_of_each_device():
    whole = Planner(composed("experiment=mlm_tiny", "trainer.devices=4")).plan(None).memory
    parted = Planner(composed("experiment=mlm_tiny", "trainer.devices=4", "trainer.strategy=fsdp")).plan(None).memory
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(parted, name) == pytest.approx(getattr(whole, name) / 4, abs=4)
    assert parted.gathered > 0


@pytest.mark.parametrize(("text", "size"), [("80GB", 80e9), ("512 MiB", 512 * 2**20), ("1.5t", 1.5e12), ("7", 7)])
def test_sizes(text, size):
    assert parse_size(text, "--fits") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0GB", "eighty"])
def test_what_is_no_size_is_said(text):
    with pytest.raises(InputError, match="is no size"):
        parse_size(text, "--fits")


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_initialisation_needs_numbers(recipe):
    model, _ = fake_model(composed("experiment=mlm_tiny", f"+encoders.text.trunk.initialisation={recipe}"))
    assert sum(p.numel() for p in model.parameters()) > 100_000


@pytest.mark.parametrize(("precision", "size"), [("32-true", 4), ("bf16-true", 2), ("64-true", 8)])
def test_weights_of_another_precision_are_planned_in_it(precision, size):
    settings = composed("experiment=grounded_tiny", f"trainer.precision={precision}")
    planner = Planner(settings)
    shares = shares_of(settings, 1, settings["micro_batch_size"])
    assert any("updates below 1/256" in line for line in planner.remarks) == (precision == "bf16-true")
    count = sum(p.numel() for p in fake_model(settings)[0].parameters())
    assert rehearse(settings, planner.drawn, 1, shares).weights == pytest.approx(size * count, rel=1e-3)  # and buffers
