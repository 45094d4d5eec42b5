from types import SimpleNamespace

import pytest

from data.errors import InputError
from pretrain.callbacks.limits import Limits
from pretrain.run import RunDirectory
from pretrain.soundness.incidents import Incidents
from tests.pretrain.callbacks.test_collapse import RANK_0, Module

DEFAULTS = {"task": "wav2vec", "metric": "temperature", "window": 2}


def follow(directory, values, **options):
    """Steps with these temperatures; gives the events, and what was asked for after each step."""
    metrics, incidents = SimpleNamespace(due=lambda module: True, row={}), Incidents(directory, {}, {})
    alarm, module = Limits(directory, metrics, incidents, **(DEFAULTS | options)), Module()
    alarm.on_train_start(RANK_0, module)
    asked = []
    for step, value in enumerate(values, 1):
        module.steps_done, metrics.row = step, {"wav2vec/temperature": value}
        alarm.on_train_batch_end(RANK_0, module, None, None, 0)
        asked.append(incidents.worst.answer if incidents.worst else None)
        incidents.worst = None
    return list(directory.rows("events.jsonl")), asked


VALUES = [0.05, 0.03, 0.01, 0.01, 0.01, 0.05, 0.05]


@pytest.mark.parametrize("policy", ["warn", "skip", "rewind", "stop"])
def test_it_asks_for_its_policy_once(tmp_path, policy):
    events, asked = follow(RunDirectory(str(tmp_path)), VALUES, low=0.0101, policy=policy)
    assert [(event["step"], event["event"]) for event in events] == [(4, "left_band"), (6, "back_in_band")]
    assert (events[0]["policy"], events[0]["low"], events[0]["high"]) == (policy, 0.0101, None)
    assert asked == [None, None, None, policy, None, None, None]


def test_nothing_is_said_before_the_first_step_that_counts(tmp_path):
    assert follow(RunDirectory(str(tmp_path)), VALUES, low=0.0101, from_step=6)[0] == []


def test_the_upper_limit(tmp_path):
    events, _ = follow(RunDirectory(str(tmp_path)), VALUES, high=0.02)
    assert [(event["step"], event["event"]) for event in events] == [
        (2, "left_band"),
        (3, "back_in_band"),
        (6, "left_band"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither low nor high is given for 'temperature'"),
        ({"low": 2, "high": 1}, "low=2 is above high=1"),
        ({"low": 1, "policy": "rewindd"}, r"policy 'rewindd' is not there; did you mean 'rewind'\?"),
        ({"low": 1, "window": 0}, "window=0 is not 1 or more"),
    ],
)
def test_wrong_settings_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        Limits(RunDirectory(str(tmp_path)), None, None, **(DEFAULTS | options))
