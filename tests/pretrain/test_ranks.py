"""Which process of how many, from the environments that launchers make."""

import pytest

from data.errors import InputError
from pretrain.ranks import Process, this_process

SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "expected"),
    [
        (1, 1, {}, Process(0, 1, "own")),
        (2, 2, {"NODE_RANK": "1", "LOCAL_RANK": "1"}, Process(3, 4, "own")),
        (2, 1, {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Process(1, 2, "torchrun")),
        # torchrun inside a Slurm allocation, and inside a step of one task.
        (2, 1, SLURM_JOB | {"RANK": "1", "WORLD_SIZE": "2"}, Process(1, 2, "torchrun")),
        (2, 2, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, Process(3, 4, "srun")),
        # An interactive shell on a node: the other process is started by this framework.
        (2, 1, SLURM_JOB | {"SLURM_STEP_NUM_TASKS": "1", "LOCAL_RANK": "1"}, Process(1, 2, "own")),
        (1, 1, SLURM_JOB | {"SLURM_STEP_NUM_TASKS": "1"}, Process(0, 1, "own")),
    ],
)
def test_launchers(devices, nodes, environment, expected):
    assert this_process(devices, nodes, environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}],
)
def test_a_launcher_that_disagrees_with_the_config_is_refused(environment):
    with pytest.raises(InputError, match=r"started 2 processes, but trainer.devices=1 x trainer.num_nodes=1 is 1"):
        this_process(1, 1, environment)
