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


class Named(nn.Module):
    """A layer under the names of BERT and of wav2vec 2.0, whose norm of weights is made by ``normed``."""

    def __init__(self, normed):
        super().__init__()
        self.LayerNorm, self.conv = nn.LayerNorm(4), normed(nn.Conv1d(4, 4, 3), dim=2)
        nn.init.normal_(self.LayerNorm.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_names_of_older_files_and_of_older_modules(tmp_path, prefix, caplog):
    older, newer = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    for theirs, ours in ((older, newer), (newer, older), (older, older), (newer, newer)):
        source, module = Named(theirs), Named(ours)
        renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        state = {prefix + renamed.get(name, name): value for name, value in source.state_dict().items()}
        save_file(state | {"cls.gamma": torch.ones(2)}, tmp_path / "model.safetensors")
        caplog.clear()
        with caplog.at_level(logging.INFO, "pretrain"):
            load_weights(module, str(tmp_path))
        assert caplog.text.strip().endswith("left out: cls.gamma")
        assert torch.equal(module.LayerNorm.weight, source.LayerNorm.weight)
        torch.testing.assert_close(module.conv(torch.ones(1, 4, 5)), source.conv(torch.ones(1, 4, 5)))


class Tied(nn.Module):
    """As T5's encoder: one matrix under two names, one of which files hold."""

    def __init__(self):
        super().__init__()
        self.shared, self.layer, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.shared.weight


@pytest.mark.parametrize("prefix", ["", "encoder."])
@pytest.mark.parametrize("without", ["shared.weight", "head.weight"])
def test_tied_tensors_that_files_hold_once(tmp_path, prefix, without):
    source, module = Tied(), Tied()
    state = {prefix + name: value for name, value in source.state_dict().items() if name != without}
    save_file(state, tmp_path / "model.safetensors")
    load_weights(module, str(tmp_path))
    assert equal(module, source)
    assert module.head.weight is module.shared.weight
    state.pop(next(name for name in state if "shared" in name or "head" in name))
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"lack shared.weight, head.weight of Tied"):
        load_weights(module, str(tmp_path))


def test_an_encoder_of_t5_as_it_was_saved(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    source, module = (transformers.T5EncoderModel(transformers.T5Config(**sizes)) for _ in range(2))
    source.save_pretrained(tmp_path)
    load_weights(module, str(tmp_path))
    assert equal(module, source)


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
