from types import SimpleNamespace

import pytest
import torch
from torch import nn

from data.errors import InputError
from modalities.plugin import PluginEncoder, alike, picked

X, Y = torch.ones(2, 3), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("found", "output", "expected"),
    [
        (X, None, X),
        ((X, Y), None, X),
        ((X, Y), 1, Y),
        ((X, Y), -1, Y),
        ({"a": X, "b": Y}, None, X),
        ({"a": X, "b": Y}, "b", Y),
        ({"a": X, "b": Y}, 1, Y),
        (SimpleNamespace(last_hidden_state=X, pooler_output=Y), None, X),
        (SimpleNamespace(last_hidden_state=X, pooler_output=Y), "pooler_output", Y),
    ],
)
def test_the_part_of_a_result(found, output, expected):
    assert picked(found, output) is expected


@pytest.mark.parametrize(
    ("found", "output", "message"),
    [
        ((X, Y), 2, "output=2 is no place in a tuple of 2"),
        ({"a": X}, "b", r"output='b' is no part of a dict of 1 \(a\)"),
        (X, "b", "output='b' is no part of a tensor of float32"),
        (X, 0, "output=0 is no place in a tensor of float32"),
    ],
)
def test_a_part_that_is_not_there(found, output, message):
    with pytest.raises(InputError, match=message):
        picked(found, output)


def test_sequences_of_one_length():
    assert alike([3, 5, 3, 1, 5]) == {3: [0, 2], 5: [1, 4], 1: [3]}


def test_features_are_sequences_or_one_vector_each():
    encoder = PluginEncoder(nn.Linear(2, 4), 4)
    assert encoder.sequences(torch.zeros(3, 4), 3).shape == (3, 1, 4)
    assert encoder.sequences(torch.zeros(3, 5, 4), 3).shape == (3, 5, 4)
    for wrong in ((3, 5, 6), (2, 5, 4), (3, 4, 4, 4), (4,)):
        with pytest.raises(InputError, match=r"Linear gives features of shape \(.*expected \(3, positions, width=4\)"):
            encoder.sequences(torch.zeros(wrong), 3)


def test_results_without_features_are_named():
    class Words(nn.Module):
        def __init__(self, result):
            super().__init__()
            self.weight, self.result = nn.Parameter(torch.ones(1)), result

        def forward(self):
            return self.result

    for result, said in ((None, "a NoneType"), (torch.ones(2, dtype=torch.int64), "a tensor of int64"), ([], "a list")):
        with pytest.raises(InputError, match=f"Words gives {said}.* where features are expected; set output"):
            PluginEncoder(Words(result), 4).run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module": "bert"}, "module is a str, not a torch.nn.Module"),
        ({"module": nn.GELU()}, "module GELU has no parameters"),
        ({"module": nn.Linear(2, 2), "method": "encode"}, "module Linear has no method 'encode'"),
        ({"module": nn.Linear(2, 2), "pool": "median"}, "pool 'median' is unknown"),
        ({"module": nn.Linear(2, 2), "weights": "nowhere"}, "weights 'nowhere' is neither a file nor a folder"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        PluginEncoder(width=2, **arguments)


def test_a_module_in_evaluation_mode_is_trained(caplog):
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    encoder = PluginEncoder(module, 2)
    assert module.training
    assert "batch norm: its samples are coupled" in caplog.text
    before, state = torch.get_rng_state(), encoder.state_dict()
    with encoder.probe() as possible:
        assert possible
        assert not module.training
        encoder.run(torch.randn(4, 2))
    assert module.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_what_a_module_raises_is_one_line():
    encoder = PluginEncoder(nn.Linear(2, 2), 2)
    message = r"^Linear cannot be called as the adapter does: mat1 and mat2 .*$"
    with pytest.raises(InputError, match=message), encoder.probe():
        encoder.run(torch.zeros(3, 5))
    assert encoder.module.training


def test_without_weights_nothing_is_called():
    with torch.device("meta"):
        encoder = PluginEncoder(nn.Linear(2, 2), 2)
    with encoder.probe() as possible:
        assert not possible
