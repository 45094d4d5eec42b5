"""The scheduler is asked once, by a program that stands in for it on the PATH."""

import logging
import os
import signal
import time

import pytest

from pretrain import requeue as asking
from pretrain.requeue import ask_for_more, job_of, preempted, requeue


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
    monkeypatch.setattr(asking, "_SECONDS", 0.5)
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert requeue({"SLURM_JOB_ID": "12"}) is (code == 0)
    assert (tmp_path / "asked").read_text() == "requeue 12\n"


@pytest.mark.parametrize("away", [1, 3, 99])
def test_a_controller_that_is_away_for_a_while_is_asked_again(tmp_path, monkeypatch, caplog, away):
    monkeypatch.setattr(asking, "_PAUSE_S", 0.01)
    program = tmp_path / "scontrol"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) -gt {away} ] && exit 0\n'
        'echo "slurm_requeue error: Unable to contact slurm controller" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    caplog.set_level(logging.INFO, "pretrain")
    begin = time.monotonic()
    ask_for_more(signal.SIGUSR1, True, within_s=1.5)
    assert time.monotonic() - begin < 10
    asked = (tmp_path / "asked").read_text().splitlines()
    assert set(asked) == {"requeue 12"}
    assert len(asked) == away + 1 if away < 9 else 3 < len(asked) < 20
    assert ("job 12 is put back into the queue" in caplog.text) is (away < 9)
    assert ("is not put back into the queue: slurm_requeue error: Unable to contact" in caplog.text) is (away > 9)


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
