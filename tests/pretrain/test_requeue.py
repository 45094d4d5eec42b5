"""The scheduler is asked once, by a program that stands in for it on the PATH."""

import os

import pytest

from pretrain.requeue import job_of, preempted, requeue


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}, "12_3"),
        ({"SLURM_JOB_ID": "12; rm -rf /"}, None),
    ],
)
def test_the_job(environment, job):
    assert job_of(environment) == job


@pytest.mark.parametrize("code", [0, 1])
def test_scontrol_is_asked(tmp_path, monkeypatch, code):
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert requeue({"SLURM_JOB_ID": "12"}) is (code == 0)
    assert (tmp_path / "asked").read_text() == "requeue 12\n"


def test_no_scontrol(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert requeue({"SLURM_JOB_ID": "12"}) is False
    assert requeue({}) is False


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("JobState=RUNNING Reason=None PreemptEligibleTime=2026-11-21T19:14:05 PreemptTime=2026-11-21T19:14:09", True),
        ("JobState=RUNNING Reason=None PreemptEligibleTime=2026-11-21T19:14:05 PreemptTime=None", False),
        ("JobState=COMPLETING Reason=None PreemptTime=2026-11-21T19:14:09", False),  # Slurm has put it back itself
        ("JobState=CANCELLED Reason=None PreemptTime=None", False),
        ("", False),
    ],
)
def test_what_slurm_says_of_a_job_that_it_ends(tmp_path, monkeypatch, said, found):
    """As printed by Slurm 22.05 in the grace time of a preemption, before it and after it."""
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\n[ "$*" = "show job --oneliner 12" ] && echo "{said}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert preempted({"SLURM_JOB_ID": "12"}) is found
    assert preempted({}) is False
