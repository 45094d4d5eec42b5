"""What a run will need: parameters, FLOPs, memory of a device, disk, data, time. Nothing of it is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from data.errors import InputError
from data.loading.loader import share_of
from data.store.store import Store
from data.stream import Stream
from pretrain import exact, mixed
from pretrain.build import make
from pretrain.checkpoint.retention import Retention, retention_of
from pretrain.evaluation.heldout import check_heldout
from pretrain.model import Model, Task
from pretrain.plan.batches import Drawn, draw, rates, units
from pretrain.plan.breadth import enough, rehearse_broad, step_of, wide_tasks
from pretrain.plan.depth import deep_trunks, rehearse_deep
from pretrain.plan.memory import Memory, memory_of
from pretrain.plan.rehearsal import Rehearsal, Share, check_precision, fake_model, rehearse, shares_of
from pretrain.plan.standin import stand_in
from pretrain.preflight import SHARDS
from pretrain.settings import check_places, check_settings, remark
from pretrain.soundness.policies import rewinds_by
from pretrain.storage import open_store
from pretrain.streams import damage_of, open_streams
from pretrain.trunks import can_recompute, set_trunks


@dataclass(frozen=True)
class TaskPlan:
    """One task's share of the plan.

    Attributes:
        batch_size: samples of a step, all devices together.
        flops: of its part of a step, all devices together.
        samples: in the whole run.
        epochs: what that is of its data; None where that could not be read.
        units: tokens, images, audio_s in the whole run.
    """

    batch_size: int
    flops: float
    samples: int
    epochs: float | None
    units: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """See the module.

    Attributes:
        devices: that share each global batch.
        strategy: as computed: ``single``, ``ddp``, ``fsdp``, ``hsdp``.
        max_steps: of the run.
        micro_batch_size: samples of a task that a device computes at once; None for its whole share.
        checkpoint_blocks: as the config says.
        precision: as the config says.
        parameters: encoder or objective -> how many.
        tasks: task -> its part.
        memory: of one device.
        checkpoint: bytes of one checkpoint.
        disk: bytes of those that are kept, and one more.
        inference: encoder -> FLOPs of one sample's features.
        fitting: numbers of devices that divide every global batch.
        faults: what keeps the run from starting, all that was found.
        remarks: samples that cannot be used, or were not to be had, for a person.
    """

    devices: int
    strategy: str
    max_steps: int
    micro_batch_size: int | None
    checkpoint_blocks: Any
    precision: str
    parameters: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, TaskPlan] = field(default_factory=dict)
    memory: Memory = field(default_factory=lambda: Memory(0, 0, 0, 0, 0, 0))
    checkpoint: int = 0
    disk: int = 0
    inference: dict[str, float] = field(default_factory=dict)
    fitting: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def planned(self) -> bool:
        """Whether a step was rehearsed; faults of the data alone do not keep it from that."""
        return bool(self.tasks)

    @property
    def flops(self) -> float:
        """Of a step, all devices together."""
        return sum(task.flops for task in self.tasks.values())

    def seconds(self, rate: float) -> float:
        """Time of the whole run at ``rate`` FLOPs a second of each device."""
        return self.max_steps * self.flops / (rate * self.devices)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        found = asdict(self)
        found["memory"]["most"] = self.memory.most
        return found | {"flops": self.flops}


class Planner:
    """Plans a run, and variants of it with the same samples.

    Args:
        config: of the run, resolved.

    Raises:
        InputError: the model does not fit. What is wrong with a task's data is a fault of the plan instead.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        check_precision(config)
        if config["data"].get("builder"):
            make(config["data"]["builder"], "data.builder", tuple(config["trusted_roots"])).ensure()
        faults = check_settings(config, config["trainer"]["devices"] * config["trainer"]["num_nodes"])
        self.faults = faults.lines
        with faults.noted():
            check_places(config)
        self.kept: Retention | None = None
        with faults.noted():
            self.kept = retention_of(config["checkpoint"], rewinds_by(config))
        self.remarks: list[str] = []
        model, _ = fake_model(config)
        self.model = model
        self.drawn: dict[str, Drawn] = {}
        self.sizes: dict[str, int] = {}
        self.streams: list[Stream] = []
        store = open_store(config)
        try:
            for name, task in model.tasks.items():
                # One task at a time: what is wrong with one says nothing about the others.
                with faults.noted():
                    self._draw(name, task, model, store)
                if name not in self.drawn:
                    self._stand_in(name, task)
                with faults.noted():
                    self._check_heldout(name, task, store)
            said = (remark(config), mixed.remark(config, self.streams))
            self.remarks += [line for line in said if line is not None]
        finally:
            store.close()

    def _draw(self, name: str, task: Task, model: Model, store: Store) -> None:
        """Reads samples of a task to plan with.

        Raises:
            InputError: its shards are not there, or none of many samples can be used.
        """
        stream = open_streams({**self.config, "tasks": {name: self.config["tasks"][name]}}, model, store)[name]
        self.remarks += [line for line in damage_of([stream]) if line not in self.remarks]
        for source in stream.sources:
            source.reach(SHARDS)
        self.streams.append(stream)
        self.drawn[name] = draw(stream, task.prepare)
        self.sizes[name] = len(stream)
        count, why = self.drawn[name].unusable
        if count:
            tried = count + len(self.drawn[name].items)
            self.remarks.append(f"task '{name}': {count} of {tried} samples cannot be used; the first: {why}")

    def _stand_in(self, name: str, task: Task) -> None:
        """Plans the task with samples of the size that its config states; none where it states none."""
        try:
            self.drawn[name] = Drawn(task.prepare, [stand_in(task.prepare)], (0, ""))
        except InputError as error:
            self.remarks.append(f"task '{name}' cannot be planned without its data: {error}")
        else:
            self.remarks.append(
                f"task '{name}' is planned without its data, with samples as large as its config allows: an upper bound"
            )

    def _check_heldout(self, name: str, task: Task, store: Store) -> None:
        heldout, max_share = self.config["tasks"][name]["heldout"], self.config["quarantine"]["max_share"]
        if heldout is not None:
            check_heldout(name, heldout, task.prepare.needs, store, max_share)

    def plan(self, micro_batch_size: int | None, checkpoint_blocks: Any = None, largest: bool = False) -> Plan:
        """The plan with this many samples of each task at once, and these blocks computed again (None: as configured).

        ``largest``: memory (and FLOPs) of steps that happen to have the largest samples.

        Raises:
            InputError: something in the config does not fit.
        """
        trainer, specs = dict(self.config["trainer"]), self.config["tasks"]
        if checkpoint_blocks is not None:
            trainer["checkpoint_blocks"] = checkpoint_blocks
        config = {**self.config, "trainer": trainer}
        devices = trainer["devices"] * trainer["num_nodes"]
        strategy = "single" if devices == 1 else "ddp" if trainer["strategy"] == "auto" else trainer["strategy"]
        faults, remarks = list(self.faults), list(self.remarks)
        for name, spec in specs.items():
            try:
                share_of(name, spec["batch_size"], devices)
            except InputError as error:
                faults.append(str(error))
        smallest = min(spec["batch_size"] for spec in specs.values())
        fitting = [n for n in range(1, smallest + 1) if all(s["batch_size"] % n == 0 for s in specs.values())]
        sizes = [exact.micro_batch_size(config, spec) for spec in specs.values()]
        if len(set(sizes)) > 1 and micro_batch_size is None:
            told = ", ".join(f"{name} {size or 'all'}" for name, size in zip(specs, sizes, strict=True))
            remarks.append(f"samples computed at once differ by task: {told}")
        micro = micro_batch_size or max(sizes, key=lambda size: size or math.inf)
        about = devices, strategy, config["max_steps"], micro, trainer["checkpoint_blocks"]
        kept = self.kept
        if len(faults) > len(self.faults) or len(self.drawn) < len(specs) or kept is None:
            found = Plan(*about, trainer["precision"], fitting=fitting, faults=faults, remarks=remarks)
        else:
            set_trunks(self.model.encoders, {**trainer, "compile": False})
            shares = shares_of(config, devices, micro_batch_size)
            rehearsal = self._rehearse(config, devices, shares, largest)
            few = {} if largest else enough(shares, wide_tasks(self.model), self._ragged)
            if few:
                mean = self._rehearse(config, devices, shares | few).flops
                rehearsal.flops |= {name: mean[name] * shares[name].share / one.share for name, one in few.items()}
            found = Plan(
                *about,
                trainer["precision"],
                parameters=rehearsal.parameters,
                tasks={name: self._task(name, rehearsal.flops[name] * devices) for name in specs},
                memory=memory_of(rehearsal, strategy, devices, trainer["shard_size"]),
                checkpoint=rehearsal.checkpoint,
                disk=(kept.most + _every(kept, config["max_steps"]) + 1) * rehearsal.checkpoint,
                inference=rehearsal.inference,
                fitting=fitting,
                faults=faults,
                remarks=remarks,
            )
        return found

    def _rehearse(
        self, config: Mapping[str, Any], devices: int, shares: Mapping[str, Share], largest: bool = False
    ) -> Rehearsal:
        wide = wide_tasks(self.model), step_of(self.model, self._tokens())
        return rehearse_deep(
            config,
            deep_trunks(config, self.model),
            lambda config: rehearse_broad(
                shares, *wide, lambda shares: rehearse(config, self.drawn, devices, shares, largest)
            ),
        )

    def _task(self, name: str, flops: float) -> TaskPlan:
        size, drawn = self.config["tasks"][name]["batch_size"], self.drawn[name]
        samples = size * self.config["max_steps"]
        mean = samples / len(drawn.items)
        counted = units(drawn.batch(len(drawn.items)), rates(drawn.prepare))
        amounts = {unit: amount * mean for unit, amount in counted.items()}
        epochs = samples / max(1, self.sizes[name]) if name in self.sizes else None
        return TaskPlan(size, flops, samples, epochs, amounts)

    @property
    def _ragged(self) -> set[str]:
        return {name for name, one in self.drawn.items() if one.ragged}

    def _tokens(self) -> float:
        """Of a sample in the mean, of the task with the longest texts."""
        counted = [
            units(one.batch(len(one.items)), rates(one.prepare)).get("tokens", 0.0) / len(one.items)
            for one in self.drawn.values()
        ]
        return max(counted, default=0.0)

    def fit(self, limit: int) -> list[Plan]:
        """Plans from the largest micro-batch down, until one takes no more than ``limit`` bytes of a device.

        Each size is tried as the config says, then with all blocks computed again, with the largest samples. The last
        plan is the one that fits; if none does, none fits.
        """
        trainer = self.config["trainer"]
        devices = trainer["devices"] * trainer["num_nodes"]
        size = max(spec["batch_size"] // devices for spec in self.config["tasks"].values())
        found: list[Plan] = []
        again: tuple[Any, ...] = (None, "all")
        if trainer["checkpoint_blocks"] == "all" or not can_recompute(self.model.encoders):
            again = (None,)
        while size >= 1:
            for blocks in again:
                found.append(self.plan(size, blocks, largest=True))
                if not found[-1].planned or found[-1].memory.most <= limit:
                    return found
            size //= 2
        return found


def _every(kept: Retention, max_steps: int) -> int:
    """Checkpoints that stay because of their step."""
    return max_steps // kept.every_n_steps if kept.every_n_steps else 0
