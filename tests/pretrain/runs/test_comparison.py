from pretrain.run import METRICS, RunDirectory
from pretrain.runs.comparison import compare


def test_each_value_stands_with_the_step_at_which_it_was_measured(tmp_path):
    often, once = (RunDirectory(str(tmp_path / name)) for name in ("often", "once"))
    often.write_results(1000, {"probe/accuracy": {"value": 0.5}, "mlm/loss": {"value": 2.0}})
    often.write_results(1900, {"mlm/loss": {"value": 1.0}}, whole=False)
    often.append(METRICS, {"step": 1950, "loss": 3.0})
    once.write_results(400, {"mlm/loss": {"value": 4.0}})
    found = compare([often.path, once.path]).as_json()
    assert found["results"] == {"probe/accuracy": [0.5, None], "mlm/loss": [1.0, 4.0], "training loss": [3.0, None]}
    assert found["measured_at"] == {
        "probe/accuracy": [1000, None],
        "mlm/loss": [1900, 400],
        "training loss": [1950, None],
    }
