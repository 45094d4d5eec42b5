import json
import re

import pytest

from data.store.store import Store
from pretrain.cli import main
from pretrain.evaluation import results
from pretrain.evaluation.build import build_evaluators
from pretrain.evaluation.measure import measure
from pretrain.export.origin import open_origin
from pretrain.model import build_model
from pretrain.report.facts import read_facts
from tests.pretrain.evaluation.conftest import publish_step


def evaluate(run, *more):
    return main(["evaluate", str(run), "--threads", "1", *more])


def test_values_are_those_that_the_run_itself_would_measure(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    resolved = directory.frozen_config()
    model = publish_step(directory, resolved, 6)
    expected = measure(model, build_evaluators(resolved, model, Store()))
    assert evaluate(tmp_path / "run") == 0
    found = results.read(results.path_of(directory.path, 6))
    assert found["metrics"] == expected
    assert set(found["metrics"]) == {"clip/loss", "clip/image_to_text_recall@1", "clip/text_to_image_recall@1"}
    assert "step 6; written to" in capsys.readouterr().out
    assert evaluate(tmp_path / "run/checkpoints/step-00000003", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"step": 3, "metrics": results.read(results.path_of(directory.path, 3))["metrics"]}
    assert printed["metrics"] != expected


def test_values_that_cannot_be_written_are_shown(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    (directory.path / results.FOLDER).write_text("in the way, as a read-only run directory is")
    assert evaluate(tmp_path / "run", "--json") == 2
    said = capsys.readouterr()
    assert "clip/loss" in json.loads(said.out)["metrics"]
    assert "step-00000003.json' cannot be written: File exists; --out FILE puts values elsewhere" in said.err


def test_an_evaluator_that_is_left_out_is_said(evaluated, tmp_path, capsys):
    evaluated(tmp_path / "run", [3])
    assert evaluate(tmp_path / "run", "+evaluator@evaluators.probe=linear_probe") == 0
    assert "evaluator 'probe' is left out: it has no train" in capsys.readouterr().err


def test_evaluators_can_be_added_later_and_join_what_is_there(evaluated, tmp_path):
    directory = evaluated(tmp_path / "run", [3])
    more = ["+evaluator@evaluators.pair=image_text", f"evaluators.pair.source={evaluated.source}"]
    evaluate(tmp_path / "run")
    evaluate(tmp_path / "run", *more, "~tasks.clip.heldout")
    found = results.read(results.path_of(directory.path, 3))["metrics"]
    assert {"clip/loss", "pair/image_to_text_recall@10"} <= set(found)
    for metric in ("image_to_text_recall@1", "text_to_image_recall@1"):
        assert found[f"pair/{metric}"] == pytest.approx(found[f"clip/{metric}"])


def test_averaged_weights_have_values_of_their_own(evaluated, tmp_path):
    directory = evaluated(tmp_path / "run", [3], average=True)
    file = results.path_of(directory.path, 3)
    evaluate(tmp_path / "run")
    trained = results.read(file)
    evaluate(tmp_path / "run", "--ema")
    averaged = results.read(file)
    assert (trained["averaged"], averaged["averaged"]) == (False, True)
    assert trained["metrics"] != averaged["metrics"]


def test_the_report_shows_them_at_their_step(evaluated, tmp_path):
    directory = evaluated(tmp_path / "run", [3, 6])
    directory.append("metrics.jsonl", {"step": 3, "loss": 1.0, "heldout/clip/loss": 9.0})
    directory.append("metrics.jsonl", {"step": 4, "loss": 0.9})
    directory.write_results(3, {"clip/loss": {"value": 9.0, "chance": 1.0}})
    directory.release()
    evaluate(tmp_path / "run/checkpoints/step-00000003")
    evaluate(tmp_path / "run")
    facts = read_facts(directory.path)
    values = {row["step"]: row.get("heldout/clip/loss") for row in facts.metrics}
    assert values[3] == 9.0  # the run's own word counts
    assert values[4] is None
    assert values[6] == results.read(results.path_of(directory.path, 6))["metrics"]["clip/loss"]["value"]
    assert facts.results["step"] == 6
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    html = (tmp_path / "run/report.html").read_text().replace("<wbr>", "")
    assert "<td>clip/image_to_text_recall@1</td>" in html


def test_the_model_as_it_began_is_a_baseline_and_no_step(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    assert evaluate(tmp_path / "run", "--untrained") == 0
    found = results.read(results.baseline_of(directory.path))
    resolved = directory.frozen_config()
    model = build_model(resolved)
    assert found["metrics"] == measure(model, build_evaluators(resolved, model, Store()))
    assert results.all_of(directory.path) == []
    origin = open_origin(str(tmp_path / "run"), False)
    assert origin.results() is None
    assert origin.baseline()["clip/loss"] == found["metrics"]["clip/loss"]["value"]
    capsys.readouterr()
    evaluate(tmp_path / "run")
    assert origin.results()["metrics"]["clip/loss"]["value"] != origin.baseline()["clip/loss"]
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["held", "out", "value", "untrained", "chance"]
    (loss,) = (line.split() for line in lines if line.startswith("clip/loss "))
    assert float(loss[2]) == pytest.approx(origin.baseline()["clip/loss"], rel=1e-3)
    evaluate(tmp_path / "run", "evaluate.ema=false")  # with other settings it may be no comparison
    assert "untrained" not in capsys.readouterr().out


def test_a_run_that_began_with_weights_of_another_is_measured_with_those(evaluated, tmp_path):
    evaluated(tmp_path / "first", [3])
    directory = evaluated(tmp_path / "run", [3])
    (row,) = directory.rows("starts.jsonl")
    place = f"init_from={tmp_path / 'first'}"
    directory.freeze_config(directory.frozen_config(), row | {"overrides": [*row["overrides"], place]})
    assert evaluate(tmp_path / "run", "--untrained") == 0
    assert evaluate(tmp_path / "first") == 0
    first = results.read(results.path_of(tmp_path / "first", 3))
    assert results.read(results.baseline_of(directory.path))["metrics"] == first["metrics"]


def test_a_run_that_goes_back_drops_values_of_weights_that_will_not_be(evaluated, tmp_path):
    directory = evaluated(tmp_path / "run", [3, 6])
    evaluate(tmp_path / "run/checkpoints/step-00000003")
    evaluate(tmp_path / "run")
    assert [one["step"] for one in results.all_of(directory.path)] == [3, 6]
    directory.rewind(4)
    assert [one["step"] for one in results.all_of(directory.path)] == [3]


def test_a_checkpoint_alone_gives_its_values_where_it_is_told(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    alone = tmp_path / "step-00000003"
    (directory.checkpoints / "step-00000003").rename(alone)
    assert evaluate(alone) == 2
    assert "lies in no run directory; give --out FILE" in capsys.readouterr().err
    overrides = next(directory.rows("starts.jsonl"))["overrides"]
    assert evaluate(alone, *overrides, "--out", str(tmp_path / "values.json")) == 0
    assert results.read(tmp_path / "values.json")["step"] == 3


def test_a_run_s_files_cannot_permit_themselves_foreign_code(evaluated, tmp_path, capsys):
    directory = evaluated(tmp_path / "run", [3])
    (row,) = directory.rows("starts.jsonl")
    more = ["trusted_roots=[shutil_like]", "+evaluators.x={_target_: shutil_like.rmtree}"]
    (tmp_path / "run/starts.jsonl").write_text(json.dumps({**row, "overrides": [*row["overrides"], *more]}) + "\n")
    assert evaluate(tmp_path / "run") == 2
    assert "is not below a trusted root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("nonsense",), "'nonsense' is not KEY=VALUE"),
        (("evaluate.sampels=3",), "unknown key 'evaluate.sampels'; did you mean 'evaluate.samples'"),
        (("tasks.clip.heldout=null",), "there is nothing to evaluate by"),
        (("tasks.clip.heldout=/nowhere/*.tar",), "source 'clip.heldout': shards '/nowhere/\\*.tar' match nothing"),
        (("watch=true", "--out", "x"), "leave --out out"),
        (("--untrained", "--ema"), "--untrained weights have no average"),
        (("--ema",), "keeps no averaged weights"),
        (("--device", "tpu"), "--device 'tpu' is unknown"),
    ],
)
def test_wrong_input_is_one_line(evaluated, tmp_path, capsys, more, message):
    evaluated(tmp_path / "run", [3])
    assert evaluate(tmp_path / "run", *more) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said
