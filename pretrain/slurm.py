"""How the tasks of a Slurm job step find one another."""

from __future__ import annotations

import os
import re

from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment

from data.errors import InputError

_FIRST_PORT, _PORTS = 15000, 10000


class SlurmStep(ClusterEnvironment):
    """Ranks as ``srun`` numbered them, whatever options it or the job was given.

    Lightning's own refuses jobs with ``--ntasks`` and reads what was asked for the job, where a step may have less.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """``srun`` did."""
        return True

    @property
    def main_address(self) -> str:
        """The step's first node, unless ``MASTER_ADDR`` says otherwise."""
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        return os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))

    @property
    def main_port(self) -> int:
        """One that follows from the job's number, unless ``MASTER_PORT`` says otherwise."""
        port = _FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % _PORTS
        return int(os.environ.setdefault("MASTER_PORT", str(port)))

    @staticmethod
    def detect() -> bool:
        """Whether this is one of several tasks of a step."""
        return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1

    def world_size(self) -> int:
        """Tasks of the step."""
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    def set_world_size(self, size: int) -> None:
        """Nobody but ``srun`` says it."""

    def global_rank(self) -> int:
        """Number of the task."""
        return int(os.environ["SLURM_PROCID"])

    def set_global_rank(self, rank: int) -> None:
        """Nobody but ``srun`` says it."""

    def local_rank(self) -> int:
        """Number of the task on its node."""
        return int(os.environ["SLURM_LOCALID"])

    def node_rank(self) -> int:
        """Number of the node in the step."""
        return int(os.environ["SLURM_NODEID"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Compares the config with how ``srun`` spread the tasks.

        Raises:
            InputError: a node has another number of tasks than ``trainer.devices``, or there are other nodes.
        """
        told = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
        found = [
            n for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", told) for n in [int(count)] * int(times or 1)
        ]
        if found and found != [num_devices] * num_nodes:
            raise InputError(
                f"srun put {told} tasks on the step's {len(found)} node(s), but trainer.devices={num_devices} and "
                f"trainer.num_nodes={num_nodes}; give srun --nodes={num_nodes} --ntasks-per-node={num_devices}, or set "
                "these two to what it did"
            )
