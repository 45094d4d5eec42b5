"""How a run is spread over devices."""

from __future__ import annotations

from datetime import timedelta

from lightning_fabric.plugins import ClusterEnvironment
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy


class ReplicatedStrategy(DDPStrategy):
    """Data parallel: each process holds the whole model, and the step itself sums the gradients.

    Torch's DDP wrapper averages each micro-batch's gradients and expects every backward pass to reach every parameter;
    a step here has several backward passes (tasks, micro-batches, cached features), each over some parameters. So the
    model stays unwrapped and gradients are summed once a step.
    """

    def configure_ddp(self) -> None:
        """Leaves the model as it is; processes build equal models from the same seed."""


def strategy_of(world_size: int, timeout_s: int) -> Strategy | str:
    """Lightning's strategy: one device, or replicas that give up after waiting ``timeout_s`` for one another."""
    return "auto" if world_size == 1 else ReplicatedStrategy(timeout=timedelta(seconds=timeout_s))


def environment_of(launcher: str) -> ClusterEnvironment:
    """How processes find one another; named, not guessed, as Slurm's variables are also set where srun is not used."""
    if launcher == "srun":
        return SLURMEnvironment(auto_requeue=False)
    return TorchElasticEnvironment() if launcher == "torchrun" else LightningEnvironment()
