import pytest

from data.errors import InputError
from pretrain import config
from pretrain.optim.weights import task_weight


def test_a_number_or_a_ramp():
    assert [task_weight(0.5, "w")(n) for n in (0, 9)] == [0.5, 0.5]
    ramp = task_weight({"from": 1, "to": 3.0, "steps": 4}, "w")
    assert [ramp(n) for n in range(6)] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
    assert not ramp.constant
    samples = task_weight({"from": 1, "to": 3.0, "samples": 30}, "w", 8)  # 4 steps
    assert [samples(n) for n in range(6)] == [ramp(n) for n in range(6)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", "tasks.mlm.weight=-1.* is too small; it must be at least 0"),
        ("abc", "tasks.mlm.weight: 'abc' is no number"),
        ("{from: 0, to: 1}", "tasks.mlm.weight is .*give a number, or from, to, and either steps or samples"),
        ("{from: 0, to: 1, steps: 3, samples: 3}", "either steps or samples"),
        ("{from: 0, to: 1, samples: 0}", "tasks.mlm.weight.samples=0 is no number of samples"),
        ("{from: 0, to: 1, step: 3}", r"unknown key 'tasks.mlm.weight.step'; did you mean 'steps'\?"),
        ("{from: 0, to: -2, steps: 3}", "tasks.mlm.weight.to=-2"),
        ("{from: 0, to: 1, steps: 0}", "tasks.mlm.weight.steps=0"),
    ],
)
def test_wrong_weights_are_one_line(value, message):
    with pytest.raises(InputError, match=message) as caught:
        config.load([f"tasks.mlm.weight={value}"])
    assert "\n" not in str(caught.value)
