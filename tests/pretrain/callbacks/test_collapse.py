import json
import logging
from types import SimpleNamespace

import pytest

from data.errors import InputError
from pretrain.callbacks.collapse import Collapse, read_bands
from pretrain.module import Pretraining
from pretrain.run import RunDirectory
from pretrain.soundness.incidents import Incidents
from pretrain.start import Start

CURVE = {"metrics": {"code_perplexity": {"steps": [10, 30], "low": [10.0, 20.0], "high": [None, None]}}}
RANK_0 = SimpleNamespace(is_global_zero=True)


class Module(Pretraining):
    def __init__(self):  # neither model nor optimizer: a callback looks at the step and the tasks' names alone
        self.steps_done, self.held_out, self.start = 0, {}, Start(0, {})

    @property
    def model(self):
        return SimpleNamespace(tasks={"wav2vec": None})


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(CURVE))
    return str(path)


def follow(directory, reference, values, begin=1, window=4):
    """Steps from ``begin`` on with these perplexities; as a run does, rows first."""
    metrics, incidents = SimpleNamespace(due=lambda module: True, row={}), Incidents(directory, {}, {})
    alarm, module = Collapse(directory, metrics, incidents, "wav2vec", reference, window), Module()
    alarm.on_train_start(RANK_0, module)
    for step, value in enumerate(values, begin):
        metrics.row = {"wav2vec/code_perplexity": value}
        directory.append("metrics.jsonl", {"step": step, **metrics.row})
        module.steps_done = step
        alarm.on_train_batch_end(RANK_0, module, None, None, 0)
    return list(directory.rows("events.jsonl"))


# Healthy, down to 2 of 32 from step 20 on, and up again from step 40 on.
VALUES = [24.0] * 19 + [2.0] * 20 + [30.0] * 20


def test_it_warns_once_when_the_mean_leaves_and_once_when_it_is_back(tmp_path, reference, caplog):
    with caplog.at_level(logging.INFO, "pretrain"):
        events = follow(RunDirectory(str(tmp_path / "run")), reference, VALUES)
    assert [(e["step"], e["event"]) for e in events] == [(21, "left_band"), (42, "back_in_band")]
    first = events[0]
    assert (first["task"], first["metric"], first["value"]) == ("wav2vec", "code_perplexity", 13.0)
    assert (first["low"], first["high"]) == (15.5, None)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]
    assert "step 21: wav2vec/code_perplexity is 13, healthy runs" in caplog.records[0].message


def test_no_alarm_before_the_band_begins_nor_from_a_single_row(tmp_path, reference):
    assert not follow(RunDirectory(str(tmp_path / "early")), reference, [2.0] * 9)
    assert not follow(RunDirectory(str(tmp_path / "one")), reference, [28.0] * 20 + [4.0] + [28.0] * 9)


@pytest.mark.parametrize("cut", [15, 20, 21, 25, 41, 50])
def test_interrupted_runs_say_the_same(tmp_path, reference, cut):
    straight = follow(RunDirectory(str(tmp_path / "straight")), reference, VALUES)
    name = str(tmp_path / "cut")
    follow(RunDirectory(name), reference, VALUES[: cut + 3])
    directory = RunDirectory(name, rank=0)
    directory.rewind(cut)
    assert follow(directory, reference, VALUES[cut:], begin=cut + 1) == straight


def test_the_shipped_curve_is_a_healthy_run():
    bands = read_bands("wav2vec2_tiny")
    assert set(bands) == {"code_perplexity", "contrastive_accuracy"}
    assert bands["code_perplexity"].at(10) is None
    assert bands["code_perplexity"].outside(400, 2.0)  # one code a group
    assert bands["code_perplexity"].outside(400, 16.4)  # half of the 32 were given up
    assert bands["contrastive_accuracy"].outside(400, 0.12)  # guessing
    assert not bands["code_perplexity"].outside(400, 22)  # what the experiment promises
    assert not bands["contrastive_accuracy"].outside(400, 0.4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no reference curve: JSONDecodeError"),
        ('{"metrics": {}}', "has no metrics"),
        ('{"metrics": {"x": {"steps": [2, 1], "low": [1, 1], "high": [1, 1]}}}', "steps must ascend"),
    ],
)
def test_wrong_references_are_named(tmp_path, content, message):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_bands(str(tmp_path / "bad.json"))


def test_unknown_reference_and_task(tmp_path, reference):
    with pytest.raises(InputError, match=r"neither a file nor shipped; did you mean 'wav2vec2_tiny'\?"):
        read_bands("wav2vec_tiny")
    alarm = Collapse(RunDirectory(str(tmp_path / "run")), SimpleNamespace(), None, "wav2vek", reference)
    with pytest.raises(InputError, match=r"task 'wav2vek' is not there; did you mean 'wav2vec'\?"):
        alarm.on_train_start(RANK_0, Module())
