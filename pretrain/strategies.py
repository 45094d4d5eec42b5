"""How a run is spread over devices."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from lightning_fabric.plugins import ClusterEnvironment
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch.distributed.device_mesh import init_device_mesh

from data.errors import InputError, RunError
from pretrain.module import Pretraining
from pretrain.ranks import Process
from pretrain.sharding.shard import shard
from pretrain.slurm import SlurmStep

SHARDED = ("fsdp", "hsdp")


class ReplicatedStrategy(DDPStrategy):
    """Data parallel: each process holds the whole model, and the step itself sums the gradients.

    Torch's DDP wrapper averages each micro-batch's gradients and expects every backward pass to reach every parameter;
    a step here has several backward passes (tasks, micro-batches, cached features), each over some parameters. So the
    model stays unwrapped and gradients are summed once a step.
    """

    def setup_environment(self) -> None:
        """Waits for the other processes.

        Raises:
            RunError: they did not all come within ``trainer.timeout_s``.
        """
        began = time.monotonic()
        try:
            super().setup_environment()
        except dist.DistError as error:
            where = f"{os.environ.get('MASTER_ADDR', 'the first host')}:{os.environ.get('MASTER_PORT', '')}"
            raise RunError(
                f"rank {self.global_rank} (process {os.getpid()} on {socket.gethostname()}) waited "
                f"{time.monotonic() - began:.0f} s for {self.world_size} ranks to meet at {where}, and not all came: "
                f"{str(error).splitlines()[0]} (longer: trainer.timeout_s)"
            ) from None

    def configure_ddp(self) -> None:
        """Leaves the model as it is; processes build equal models from the same seed."""


class ShardedStrategy(ReplicatedStrategy):
    """Each process holds its rows of every parameter, gradient and optimizer state (FSDP2).

    Not Lightning's ``ModelParallelStrategy``: that divides a model built inside of it, and keeps checkpoints and
    optimizers its own way, none of which is used here.

    Args:
        shard_size: processes that hold a model together; there is a copy for each such group (HSDP). None: all (FSDP).
        timeout: how long a process waits for another.
    """

    def __init__(self, shard_size: int | None, timeout: timedelta) -> None:
        super().__init__(timeout=timeout)
        self.shard_size = shard_size

    def setup_environment(self) -> None:
        """Divides the model as soon as the processes can talk to one another: before a state is restored into it."""
        super().setup_environment()
        module = self.lightning_module
        assert isinstance(module, Pretraining)
        self.precision_plugin.convert_module(module)
        shape: tuple[int, ...] = (self.world_size,)
        if self.shard_size is not None:
            shape = (self.world_size // self.shard_size, self.shard_size)
        mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=("copies", "parts")[-len(shape) :])
        shard(module.model, module.optimizer, mesh)


def strategy_of(options: Mapping[str, Any], process: Process) -> Strategy | str:
    """Lightning's strategy for the ``trainer`` section of a config: one device, copies, or parts.

    One device has all there is whatever is asked for.

    Raises:
        InputError: ``shard_size`` does not fit the strategy or the number of processes.
    """
    kind, size, world_size = options["strategy"], options["shard_size"], process.world_size
    if (size is not None) != (kind == "hsdp"):
        raise InputError(
            f"trainer.shard_size={size} with trainer.strategy={kind}: hsdp needs the number of devices that hold a "
            "model together, the others take none"
        )
    if kind in SHARDED and options["deterministic"] == "exact":
        raise InputError(
            f"trainer.deterministic=exact sums whole gradients, which trainer.strategy={kind} divides; "
            "choices with it: auto, ddp"
        )
    if world_size == 1:
        return "auto"
    timeout = timedelta(seconds=options["timeout_s"])
    if kind not in SHARDED:
        return ReplicatedStrategy(timeout=timeout)
    if size is not None and (size < 2 or size >= world_size or world_size % size):
        fitting = [str(n) for n in range(2, world_size) if world_size % n == 0]
        raise InputError(
            f"trainer.shard_size={size} does not divide {world_size} devices into several groups; "
            f"choices: {', '.join(fitting) or 'none, use fsdp'}"
        )
    return ShardedStrategy(size, timeout)


def environment_of(launcher: str) -> ClusterEnvironment:
    """How processes find one another; named, not guessed, as Slurm's variables are also set where srun is not used."""
    if launcher == "srun":
        return SlurmStep()
    return TorchElasticEnvironment() if launcher == "torchrun" else LightningEnvironment()
