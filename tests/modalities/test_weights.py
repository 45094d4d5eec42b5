import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from data.errors import InputError
from modalities.weights import load_weights


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


@pytest.fixture
def saved(tmp_path):
    source = network()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    return source, tmp_path


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_from_a_file_and_from_a_folder(saved):
    source, folder = saved
    for path in (folder, folder / "model.safetensors"):
        module = network()
        assert not equal(module, source)
        load_weights(module, str(path))
        assert equal(module, source)


def test_in_several_files_with_a_prefix_and_a_head(saved, caplog):
    source, folder = saved
    (folder / "model.safetensors").unlink()
    state = {f"bert.{name}": value for name, value in source.state_dict().items()}
    first = dict(list(state.items())[:2])
    save_file(first, folder / "model-00001-of-00002.safetensors")
    rest = {name: value for name, value in state.items() if name not in first}
    save_file(rest | {"cls.0.weight": torch.ones(9)}, folder / "model-00002-of-00002.safetensors")
    module = network()
    with caplog.at_level(logging.INFO, "pretrain"):
        load_weights(module, str(folder))
    assert equal(module, source)
    assert "left out: cls.0.weight" in caplog.text


def test_what_does_not_fit_is_named(saved):
    _, folder = saved
    with pytest.raises(InputError, match=r"lack 2.weight, 2.bias of Sequential; they hold 0.bias, 0.weight, 1.bias"):
        load_weights(network().append(nn.Linear(4, 4)), str(folder))
    other = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    with pytest.raises(InputError, match=r"have 0.weight of shape \(4, 3\), Sequential of shape \(4, 5\)"):
        load_weights(other, str(folder))


def test_no_pickles(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"hold no .safetensors file \(found: pytorch_model.bin\)"):
        load_weights(network(), str(tmp_path))
    with pytest.raises(InputError, match=r"is there, but is no \.safetensors file"):
        load_weights(network(), str(tmp_path / "pytorch_model.bin"))
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(network(), str(tmp_path))
