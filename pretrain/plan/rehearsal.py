"""A step of a run, carried out on tensors that only say what they would be: its FLOPs and memory, at no cost.

The model and all that is computed of it are fake tensors: shapes and types without contents. What decides on shapes
(lengths of sequences, masked positions) is real. So what is counted is what the run's own code will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from data.errors import InputError
from modalities.objective import Step
from modalities.transformer import Transformer
from pretrain import exact
from pretrain.build import make
from pretrain.model import Model, build_model
from pretrain.optim.ema import Ema
from pretrain.optim.state import state_bytes
from pretrain.plan.batches import Drawn
from pretrain.plan.tracking import Meter
from pretrain.trunks import set_trunks

_AT_MOST = 2
"""Micro-batches of a task that are rehearsed; further ones cost as much as these do in the mean."""
_ASKED = 32
"""Samples whose mean is what inference of one costs."""
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


@dataclass(frozen=True)
class Share:
    """Samples of a task that one device has.

    Attributes:
        share: of each global batch.
        micro: computed at once.
        few: so many different ones, again and again, stand for all; None: all that were drawn.
        stands_for: this is to be like micro-batches of so many samples; None: of its own.
    """

    share: int
    micro: int
    few: int | None = None
    stands_for: int | None = None

    @property
    def rehearsed(self) -> int:
        """Micro-batches that are rehearsed."""
        return min(-(-self.share // self.micro), _AT_MOST)

    def of(self, micro: int) -> Share:
        """As many micro-batches as would be rehearsed, of ``micro`` samples."""
        return Share(micro * self.rehearsed, micro, self.few, self.micro)


def shares_of(config: Mapping[str, Any], world_size: int, micro_batch_size: int | None) -> dict[str, Share]:
    """Task -> what one of ``world_size`` devices has of it; ``micro_batch_size`` None: as each task says."""
    found = {}
    for name, spec in config["tasks"].items():
        whole = spec["batch_size"] // world_size
        found[name] = Share(whole, min(micro_batch_size or exact.micro_batch_size(config, spec) or whole, whole))
    return found


class _Alone(Step):
    """One process that stands for all of ``world_size``: the others have what it has."""

    def __init__(self, world_size: int) -> None:
        super().__init__(0)
        self.world_size = world_size

    def all_sum(self, x: Tensor) -> Tensor:
        """See :class:`Step`."""
        return x * self.world_size

    def all_gather(self, x: Tensor) -> Tensor:
        """See :class:`Step`."""
        return torch.cat([x] * self.world_size)


@dataclass
class Rehearsal:
    """What one step of one device comes to.

    Attributes:
        flops: task -> FLOPs of its part, forward and backward, with what is computed again.
        weights, gradients, optimizer, averages: bytes of the whole model's.
        most: bytes that a step holds at its height beside weights, optimizer state and averages.
        heights: the same in each stretch between the ends of trunks; see :mod:`pretrain.plan.depth`.
        apart: bytes of each part that a divided model gathers by itself.
        checkpoint: bytes of a checkpoint's tensors.
        parameters: encoder or objective -> number of parameters.
        inference: encoder -> FLOPs of one sample's features, forward alone.
    """

    flops: dict[str, float] = field(default_factory=dict)
    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    averages: int = 0
    most: int = 0
    heights: list[int] = field(default_factory=list)
    apart: list[int] = field(default_factory=list)
    checkpoint: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    inference: dict[str, float] = field(default_factory=dict)


@contextmanager
def _nothing_is_drawn() -> Iterator[None]:
    """Leaves out the one initialisation of torch that looks at the numbers which it has drawn (from 2.13 on)."""
    real = nn.init.trunc_normal_
    nn.init.trunc_normal_ = lambda tensor, *_, **__: tensor
    try:
        yield
    finally:
        nn.init.trunc_normal_ = real


def fake_model(config: Mapping[str, Any]) -> tuple[Model, FakeTensorMode]:
    """The model that ``config`` describes, without its numbers.

    Raises:
        InputError: see :func:`pretrain.model.build_model`.
    """
    # Autograd starts a thread for each device that is there at its first use. Fake tensors pretend to one more, and a
    # process that has such a thread can fork none that trains.
    torch.ones((), requires_grad=True).backward()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, _nothing_is_drawn():
        model = build_model(config)
    set_trunks(model.encoders, {**config["trainer"], "compile": False})
    dtype = _TRUE.get(config["trainer"]["precision"])
    if dtype is not None:
        with fake:
            _turn(model, dtype)
    return model.train(), fake


def _turn(model: nn.Module, dtype: torch.dtype) -> None:
    """``model.to(dtype)``, which puts new contents into old tensors and cannot do so with fake ones."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # one that has several places stays one
    for part in model.modules():
        for name, p in part.named_parameters(recurse=False, remove_duplicate=False):
            if p.is_floating_point():
                if p not in made:
                    made[p] = nn.Parameter(p.detach().to(dtype), requires_grad=p.requires_grad)
                setattr(part, name, made[p])
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            if buffer.is_floating_point():
                setattr(part, name, buffer.to(dtype))


def rehearse(
    config: Mapping[str, Any],
    drawn: Mapping[str, Drawn],
    world_size: int,
    shares: Mapping[str, Share],
    largest: bool = False,
) -> Rehearsal:
    """Carries out a step of one of ``world_size`` devices.

    Args:
        config: of the run, resolved.
        drawn: task -> samples of it.
        world_size: devices that share each global batch.
        shares: task -> samples of this device.
        largest: with the largest of the samples instead of medium ones, for the most memory that a step may take.

    Raises:
        InputError: something in the config does not fit.
    """
    model, fake = fake_model(config)
    named = list(model.named_parameters())
    with fake:
        roots = tuple(config["trusted_roots"])
        optimizer = make(config["optimizer"], "optimizer", roots, parameters=named, device="cpu")
        model.check_trained()
        ema = Ema(model, **config["ema"]) if config["ema"]["decay"] is not None else None
        if ema is not None:
            ema.begin()
    found = Rehearsal(parameters=_parameters(model), apart=_apart(model))
    found.weights = _bytes([*model.parameters(), *model.buffers()])
    found.checkpoint = state_bytes(model, optimizer, ema)
    found.averages = _bytes(ema.tensors.values()) if ema is not None else 0
    step, meter = _Alone(world_size), Meter()
    meter.ignore(*model.parameters(), *model.buffers(), *(ema.tensors.values() if ema is not None else ()))
    _mark_trunks(model, meter)
    dtype = _AUTOCAST.get(config["trainer"]["precision"])
    with meter, torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        for name, task in model.tasks.items():
            share, micro, few, count = shares[name].share, shares[name].micro, shares[name].few, shares[name].rehearsed
            samples = drawn[name].for_batches_of(shares[name].stands_for or micro, largest).without_contents(fake)
            if few is not None:
                samples = samples.fewer(few)
            batches = [_faked(samples.batch(micro, n * micro), fake) for n in range(count)]
            before = meter.flops
            task.objective.step(model.sides(task.sides), batches, step, 1.0)
            found.flops[name] = (meter.flops - before) * share / (micro * len(batches))
            del batches
        meter.mark()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.gradients = _bytes(gradients)
        limit = config["gradient_clip_norm"]
        nn.utils.clip_grad_norm_(model.parameters(), float("inf") if limit is None else limit)
    found.most, found.heights = meter.most, meter.heights
    optimizer.step()
    found.optimizer = _bytes(t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor))
    optimizer.zero_grad()
    found.inference = _inference(model, drawn, fake, dtype)
    return found


def _mark_trunks(model: Model, meter: Meter) -> None:
    """Has ``meter`` begin a stretch where the first and the last block of a trunk begin or end, both ways."""

    def done(block: nn.Module, given: Any, found: Tensor) -> None:
        meter.mark()
        if found.requires_grad:
            found.register_hook(lambda gradient: meter.mark())

    for trunk in model.modules():
        if isinstance(trunk, Transformer):
            for block in (trunk.blocks[0], trunk.blocks[-1]):
                block.register_forward_hook(done)


def _inference(
    model: Model, drawn: Mapping[str, Drawn], fake: FakeTensorMode, dtype: torch.dtype | None
) -> dict[str, float]:
    found: dict[str, float] = {}
    model.eval()
    for name, task in model.tasks.items():
        size = min(_ASKED, len(drawn[name].items))
        batch = _faked(drawn[name].batch(size), fake)
        for side, encoder in task.sides.items():
            if encoder in found:
                continue
            with (
                torch.no_grad(),
                torch.autocast("cpu", dtype=dtype, enabled=dtype is not None),
                Meter() as meter,
            ):
                model.encoders[encoder](batch[side])
            found[encoder] = meter.flops / size
    return found


def _faked(value: Any, fake: FakeTensorMode) -> Any:
    """Floating-point contents become fake; whole numbers, which decide on shapes, stay."""
    if isinstance(value, Tensor):
        return fake.from_tensor(value) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _faked(inner, fake) for key, inner in value.items()}
    return value


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _parameters(model: Model) -> dict[str, int]:
    parts = [*model.encoders.items(), *model.objectives.items()]
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts}


def _apart(model: Model) -> list[int]:
    from pretrain.sharding.shard import gathered_apart

    return [_bytes(part.parameters()) for part in gathered_apart(model)]


def check_precision(config: Mapping[str, Any]) -> None:
    """Checks that the precision is one that can be rehearsed.

    Raises:
        InputError: it is not.
    """
    known = ("32-true", *_AUTOCAST, *_TRUE)
    if config["trainer"]["precision"] not in known:
        raise InputError(f"trainer.precision={config['trainer']['precision']} cannot be planned; {', '.join(known)}")
