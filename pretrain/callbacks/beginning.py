"""Before the first step: rank 0 finds where the run stands, and all processes go on from exactly there."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from data.errors import InputError, RunError
from data.loading.loader import StepBatch
from data.stream import Stream
from pretrain import checkpoint, datacard, mixed, settings
from pretrain.company import Company
from pretrain.faults import Faults
from pretrain.module import Pretraining
from pretrain.optim.state import optimizer_tensors, restore_optimizer, state_bytes
from pretrain.preflight import look
from pretrain.provenance import provenance
from pretrain.run import RunDirectory
from pretrain.sharding.local import is_sharded
from pretrain.sharding.restoring import restore_from
from pretrain.start import Start, differs, find_start, initialise_from, place
from pretrain.streams import damage_of

log = logging.getLogger("pretrain")
T = TypeVar("T")
Look = Callable[[], checkpoint.Reader | None]
_NAMED = 8  # samples of a task that a message names
_Described: TypeAlias = tuple[dict[str, str], int, int]  # digests of its sources, how many shards and samples


class Beginning(pl.Callback):
    """Restores the run once the processes can talk to one another.

    Only rank 0 looks at the run directory. The others get positions, and weights and optimizer state, from it; where
    those are divided between processes each reads its own part of the checkpoint that rank 0 has chosen and verified.
    So they cannot begin apart, and an error that one finds ends all of them.

    Args:
        config: of the run, resolved.
        overrides: of the command line.
        directory: of the run.
        facts: see :func:`pretrain.start.facts_of`.
        streams: task -> its stream.
        company: of the run.
        held_out: what evaluators read.
        file: the whole config that the overrides changed, if there was one.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        overrides: list[str],
        directory: RunDirectory,
        facts: Mapping[str, Any],
        streams: Mapping[str, Stream],
        company: Company,
        held_out: Sequence[Stream] = (),
        file: str | None = None,
    ) -> None:
        self.file = file
        self.config, self.overrides, self.directory, self.facts = config, overrides, directory, facts
        self._under_way = False
        self._last_sign: float | None = None
        self.streams, self.company, self.held_out = streams, company, held_out

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Sets the module's ``start`` and state.

        Raises:
            InputError, RunError: on every process, what one found wrong.
        """
        assert isinstance(pl_module, Pretraining)
        self.company.meet(self.config["trainer"]["timeout_s"])
        first = self._from_first(_described(self.held_out))
        self._agreed(lambda: self._compare(first))
        found = self.go_on(pl_module, lambda: find_start(self.config, self.directory, self.facts, self.streams))
        self._agreed(lambda: self._count(pl_module), rank=0)
        self._agreed(lambda: self._look_ahead(pl_module), rank=0)
        self._agreed(lambda: self._enter(pl_module, found), rank=0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """Says what this rank is at, should the others miss it."""
        self._under_way = True
        self.company.lifeline.doing = f"computed step {batch.step + 1}"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Says that the step is behind this rank, before what stands behind this callback measures or saves."""
        assert isinstance(pl_module, Pretraining)
        self.company.attempts.note(pl_module.steps_done, behind=True)
        self.company.lifeline.doing = f"measured or wrote down what follows step {pl_module.steps_done}"

    def go_on(self, module: Pretraining, look: Look) -> checkpoint.Reader | None:
        """Puts module, streams and the run's files where the checkpoint stands that ``look`` finds on rank 0.

        A collective. Returns the checkpoint, on every process that has read of it.

        Raises:
            InputError, RunError: on every process, what one found wrong.
        """
        seen = self._agreed(lambda: self._look(look), rank=0)
        found = seen[0] if seen else None
        path, module.start = self._from_first((found.path if found else None, seen[1] if seen else module.start))
        module.steps_done = module.start.step
        self._agreed(lambda: self._follow(module.start))
        if is_sharded(module.model):
            found = self._agreed(lambda: self._restore(module, found, path))
        else:
            self._agreed(lambda: self._restore(module, found, path), rank=0)
            self._share(module)
        return found

    def _compare(self, first: Mapping[str, _Described]) -> None:
        """Makes sure that this rank measures what rank 0 does, which under FSDP is the same number of forward passes.

        Args:
            first: what rank 0 reads.

        Raises:
            InputError: this rank reads something else.
        """
        own = _described(self.held_out)
        for name in sorted(own.keys() | first.keys()):
            here, there = own.get(name), first.get(name)
            if here != there:
                what = [f"{one[1]} shards with {one[2]} samples" if one else "none" for one in (here, there)]
                how = "shards of other names or sizes" if what[0] == what[1] else f"{what[0]}, and {what[1]} there"
                raise InputError(
                    f"rank {self.company.agreement.rank} on {socket.gethostname()} finds other data than rank 0 for "
                    f"held-out source '{name}': {how}; let all hosts have the same shards, and give all the same "
                    "command"
                )

    def _look(self, look: Look) -> tuple[checkpoint.Reader | None, Start]:
        found = look()
        return found, place(self.config, self.directory, found, self.streams)

    def _follow(self, start: Start) -> None:
        """Puts the streams of another rank where those of rank 0 stand, which has taken up what was changed on purpose.

        Raises:
            InputError: they are made of other shards or shuffled otherwise; this rank would train on other samples.
        """
        if not self.company.agreement.rank:
            return
        for task, stream in self.streams.items():
            segments = start.segments[task]
            changes = stream.adopt(segments, start.positions[task])
            if changes:
                first = {name: part["digest"] for name, part in segments[-1]["parts"].items()}
                own = stream.fingerprint()
                other = [name for name in sorted(own.keys() & first.keys()) if own[name] != first[name]]
                what = changes[0].partition(":")[0]
                if other:
                    how = differs(other[0], first, self.streams, (self.directory.path,))
                    what = f"source '{other[0]}' has other shards" + (f", {how}" if how else "")
                raise InputError(
                    f"rank {self.company.agreement.rank} on {socket.gethostname()} finds other data than rank 0 for "
                    f"task '{task}': {what}; let all hosts have the same shards, and give all the same command"
                )

    def _restore(
        self, module: Pretraining, found: checkpoint.Reader | None, path: Path | None
    ) -> checkpoint.Reader | None:
        if found is None and path is not None:
            found = checkpoint.Reader(path, verified=False)  # rank 0 has just done it
        if found is not None:
            restore_from(found, module.model, module.optimizer, module.ema)
            return found
        if self.config["init_from"] is not None:
            initialise_from(self.config, module.model, self.facts["tokenizers"])
        if module.ema is not None:
            module.ema.begin()
        return None

    def _share(self, module: Pretraining) -> None:
        """Whole tensors, from rank 0 to the others."""
        if self.company.agreement.group is None:
            return
        kinds = [dict(module.model.state_dict()), optimizer_tensors(module.optimizer, module.model)]
        kinds.append(module.ema.tensors if module.ema is not None else {})
        described = [{name: (t.shape, t.dtype) for name, t in kind.items()} for kind in kinds]
        first = self.company.agreement.rank == 0
        received: list[dict[str, Tensor]] = []
        for kind, names in zip(kinds, self._from_first(described), strict=True):
            received.append({})
            for name, (shape, dtype) in names.items():
                tensor = kind[name].detach().cpu().contiguous() if first else torch.empty(shape, dtype=dtype)
                dist.broadcast(tensor, 0, group=self.company.agreement.group)
                received[-1][name] = tensor
        if not first:
            weights, state, averages = received
            module.model.load_state_dict(weights)
            restore_optimizer(module.optimizer, module.model, state)
            if module.ema is not None:
                module.ema.begin(averages)

    def _look_ahead(self, module: Pretraining) -> None:
        """Rank 0 tries what the steps are going to need; a sample that ends the process counts for their first."""
        start = module.start
        if start.step < self.config["max_steps"]:
            faults, size = Faults(), state_bytes(module.model, module.optimizer, module.ema)
            self.company.attempts.note(start.step + 1)
            new = start.step == 0 and not is_sharded(module.model)
            model = module.model if new else None
            look(faults, self.config, self.directory, module.model.tasks, self.streams, start.positions, size, model)
            self.company.attempts.note(0)
            faults.tell()
            for line in (settings.remark(self.config), mixed.remark(self.config, self.streams.values())):
                if line is not None:
                    log.warning("%s", line)

    def _count(self, module: Pretraining) -> None:
        """Rank 0 looks how often the run was tried from here."""
        self._last_sign = self.company.attempts.last_sign()
        self.company.attempts.begin(self.config["allow_changes"], lambda step: self._samples(module.start, step))

    def _enter(self, module: Pretraining, found: checkpoint.Reader | None) -> None:
        """Rank 0 writes down that the run goes on here."""
        sizes = {name: spec["batch_size"] for name, spec in self.config["tasks"].items()}
        where = {"step": module.start.step, "positions": module.start.positions, "batch_sizes": sizes}
        where |= {"segments": module.start.segments, "data": self.facts["data"]}
        where |= {"world_size": self.company.agreement.world_size}
        where |= {"previous_end": self._last_sign}
        damage = damage_of(self.streams.values())
        for line in damage:
            log.warning("%s", line)
        where |= {"damage": damage} if damage else {}
        self.directory.freeze_config(self.config, provenance(self.overrides, self.file) | where)
        prepares = {name: task.prepare for name, task in module.model.tasks.items()}
        datacard.keep(self.directory.path, self.streams, prepares)

    def _samples(self, start: Start, step: int) -> str:
        """The samples of ``step``, the first few of each task by name."""
        parts = []
        for task, stream in self.streams.items():
            size = self.config["tasks"][task]["batch_size"]
            position = start.position(task, step - 1, size)
            places = stream.locate(stream.arrange(np.arange(position, position + size)))
            names = [f"'{key}' of {shard}" for shard, key in map(stream.identity, places[:_NAMED])]
            more = f" and {size - len(names)} more" if size > len(names) else ""
            parts.append(f"{task} from position {position} on: {', '.join(names)}{more}")
        return "; ".join(parts)

    def _from_first(self, value: T) -> T:
        """What rank 0 gives."""
        if self.company.agreement.group is None:
            return value
        message = [value]
        dist.broadcast_object_list(message, 0, group=self.company.agreement.group)
        return message[0]

    def _agreed(self, do: Callable[[], T], rank: int | None = None) -> T | None:
        """Does something on all processes, or on ``rank`` alone; what is wrong on one is raised on all.

        Raises:
            InputError, RunError: of the first process that had one.
        """
        result, group = None, self.company.agreement.group
        wrong: InputError | RunError | None = None
        if group is None:
            return self._told(do)
        try:
            if rank is None or rank == self.company.agreement.rank:
                result = self._told(do)
        except (InputError, RunError) as error:
            wrong = error
        told: list[Any] = [None] * self.company.agreement.world_size
        dist.all_gather_object(told, wrong and (isinstance(wrong, InputError), str(wrong)), group=group)
        for one in told:
            if one:
                raise (InputError if one[0] else RunError)(one[1])
        return result

    def _told(self, do: Callable[[], T]) -> T:
        """What ``do`` returns; a disk or a checkpoint that fails it is told as what keeps the run from going on.

        Raises:
            InputError: it failed, and the run has not begun.
            RunError: it failed, and the run has.
        """
        try:
            return do()
        except (checkpoint.Damaged, OSError) as error:
            kind = RunError if self._under_way else InputError
            raise kind(
                f"the run cannot go on from here: {error}; see to that, and the same command continues"
            ) from error


def _described(streams: Sequence[Stream]) -> dict[str, _Described]:
    return {
        stream.task.removesuffix(".heldout"): (
            stream.fingerprint(),
            sum(len(source.urls) for source in stream.sources),
            len(stream),
        )
        for stream in streams
    }
