from __future__ import annotations

import pytest

from data.errors import InputError
from pretrain.slurm import SlurmStep

STEP = {
    "SLURM_JOB_ID": "120045",
    "SLURM_JOB_NAME": "bash",
    "SLURM_NTASKS": "8",
    "SLURM_NNODES": "4",
    "SLURM_NODELIST": "gpu[01-04]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[02,04]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> SlurmStep:
    """A step of four tasks on two of its job's four nodes, submitted with ``--ntasks`` from a shell."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.setenv(name, "")  # so that what the step sets is undone
        monkeypatch.delenv(name)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    return SlurmStep()


def test_ranks_are_those_of_the_step_not_of_the_job(step: SlurmStep) -> None:
    assert SlurmStep.detect()
    assert (step.world_size(), step.global_rank(), step.local_rank(), step.node_rank()) == (4, 3, 1, 1)
    assert (step.main_address, step.main_port) == ("gpu02", 15045)


def test_who_names_address_and_port_is_heard(step: SlurmStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "4711")
    assert (step.main_address, step.main_port) == ("127.0.0.1", 4711)


@pytest.mark.parametrize(
    ("told", "devices", "nodes"), [("2(x2)", 2, 2), ("2,2", 2, 2), ("4", 4, 1), ("1(x3)", 1, 3), ("", 5, 5)]
)
def test_tasks_that_are_spread_as_the_config_says(
    step: SlurmStep, monkeypatch: pytest.MonkeyPatch, told: str, devices: int, nodes: int
) -> None:
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", told)
    step.validate_settings(devices, nodes)


@pytest.mark.parametrize(("told", "devices", "nodes"), [("3,1", 2, 2), ("4", 2, 2), ("2(x2)", 4, 1), ("1(x2),2", 2, 2)])
def test_tasks_that_are_spread_otherwise_are_refused(
    step: SlurmStep, monkeypatch: pytest.MonkeyPatch, told: str, devices: int, nodes: int
) -> None:
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", told)
    with pytest.raises(InputError, match=r"srun put .* but trainer.devices="):
        step.validate_settings(devices, nodes)
