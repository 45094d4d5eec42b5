"""Steps of the smallest grounded run on one or several processes, divided or not: what a test compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from data.loading.loader import StepLoader, TaskData
from pretrain import config
from pretrain.build import make
from pretrain.exact import ExactGradients
from pretrain.gradients import Gradients
from pretrain.model import Model, build_model
from pretrain.optim.ema import Ema
from pretrain.optim.state import optimizer_tensors
from pretrain.sharding.norms import clip
from pretrain.sharding.shard import reshard, shard
from pretrain.steps import TrainerStep
from pretrain.storage import open_store
from pretrain.streams import open_streams
from tests.integration.runs import SMALL

MODALITIES = ("text", "image", "audio")
STILL = tuple(f"encoders.{name}.dropout=0" for name in MODALITIES)  # other processes draw other numbers


@dataclass
class Plan:
    """What is run.

    Attributes:
        overrides: of the config.
        micro: largest micro-batch.
        mesh: () to keep the model whole; (parts,) or (copies, parts) to divide it.
        exact: same bits on any number of processes.
        autocast: compute in bfloat16 where Lightning's bf16-mixed does.
        steps: how many.
        tasks: those of each step in turn; None: all in every one.
    """

    overrides: Sequence[str] = STILL
    micro: int | None = None
    mesh: tuple[int, ...] = ()
    exact: bool = False
    autocast: bool = False
    steps: int = 3
    tasks: Sequence[Sequence[str]] | None = None
    setup: Callable[[Model], None] | None = None
    composed: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.composed = config.load([*SMALL, *self.overrides])
        make(self.composed["data"]["builder"], "data.builder").ensure()


@dataclass
class Parts:
    """What is trained."""

    model: Model
    optimizer: torch.optim.Optimizer
    ema: Ema
    gradients: Gradients


def build(plan: Plan, rank: int, world_size: int) -> Parts:
    """Model, optimizer and averages of ``plan``, divided as it says."""
    model = build_model(plan.composed)
    optimizer = make(plan.composed["optimizer"], "optimizer", parameters=list(model.named_parameters()), device="cpu")
    if plan.setup:
        plan.setup(model)
    if plan.mesh:
        names = ("copies", "parts")[2 - len(plan.mesh) :]
        shard(model, optimizer, init_device_mesh("cpu", plan.mesh, mesh_dim_names=names))
    ema = Ema(model, 0.9)
    ema.begin()
    kind = ExactGradients if plan.exact else Gradients
    return Parts(model, optimizer, ema, kind(model, rank, world_size))


def train(plan: Plan, parts: Parts, first: int = 0) -> list[dict[str, Any]]:
    """``plan.steps`` steps from ``first`` on; their metrics, with the gradient's norm."""
    model, gradients, composed = parts.model, parts.gradients, plan.composed
    streams = open_streams(composed, model, open_store(composed))
    data = {}
    for name, spec in composed["tasks"].items():
        data[name] = TaskData(
            streams[name], model.tasks[name].prepare, spec["batch_size"], plan.micro, first * spec["batch_size"]
        )
    module: Any = SimpleNamespace(
        gradients=gradients, model=model, manual_backward=Tensor.backward, seed=0, device=torch.device("cpu")
    )
    rows = []
    loader = StepLoader(data, first, first + plan.steps, gradients.rank, gradients.world_size)
    for batch in loader:
        chosen = plan.tasks[batch.step % len(plan.tasks)] if plan.tasks else list(model.tasks)
        row: dict[str, Any] = {}
        for name in chosen:
            task = model.tasks[name]
            gradients.begin(len(batch.tasks[name]))
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.autocast):
                step = TrainerStep(module, batch.step, name)
                row[name] = task.objective.step(model.sides(task.sides), batch.tasks[name], step, 1.0)
            gradients.end()
        found = gradients.finish()
        row["norm"] = clip(found, 1.0)
        reshard(model)
        parts.optimizer.step()
        parts.optimizer.zero_grad()
        parts.ema.update(batch.step + 1)
        rows.append(row)
    return rows


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, none divided; a collective of all processes."""
    return {n: (joined(t) if isinstance(t, DTensor) else t).detach().clone() for n, t in tensors.items()}


def joined(tensor: DTensor) -> Tensor:
    """The parts of all processes, put where they belong.

    Not ``full_tensor()``: waiting for its asynchronous collectives has once ended a process with a segmentation fault.
    """
    part = tensor.to_local().detach()
    _, begin = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, (begin, part))
    full = torch.full(tensor.shape, float("nan"), dtype=tensor.dtype)
    for at, values in found:
        full[tuple(slice(b, b + n) for b, n in zip(at, values.shape, strict=True))] = values
    return full


def outcome(parts: Parts, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Weights, averages and optimizer state, whole, and the metrics."""
    return {
        "model": whole(dict(parts.model.state_dict())),
        "ema": whole(parts.ema.tensors),
        "optimizer": whole(optimizer_tensors(parts.optimizer, parts.model)),
        "rows": rows,
    }


def on_rank(rank: int, world_size: int, store: str, out: str, work: Callable[[int, int], Any]) -> None:
    """One of several processes: saves what ``work(rank, world_size)`` returns."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    torch.save(work(rank, world_size), f"{out}-{rank}")
    dist.barrier()
    dist.destroy_process_group()


def spread(world_size: int, folder: Path, work: Callable[[int, int], Any], seconds: float = 240) -> list[Any]:
    """What ``work(rank, world_size)`` returns in each of ``world_size`` processes."""
    folder.mkdir(parents=True, exist_ok=True)
    context = torch.multiprocessing.get_context("fork")
    arguments = (world_size, str(folder / "store"), str(folder / "out"), work)
    processes = [context.Process(target=on_rank, args=(rank, *arguments)) for rank in range(world_size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    for process in processes:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0] * world_size
    return [torch.load(f"{folder / 'out'}-{rank}") for rank in range(world_size)]


def run(plan: Plan, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """The outcome of ``plan`` on this process and its fellows."""
    parts = build(plan, rank, world_size)
    return outcome(parts, train(plan, parts))
