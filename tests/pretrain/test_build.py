import pytest
import torch

from data.errors import InputError
from modalities.prepare import Sides
from modalities.text.encoder import TextEncoder
from pretrain.build import locate, make

TEXT = {"_target_": "modalities.text.encoder.TextEncoder", "vocab_size": 300, "width": 16, "depth": 1, "heads": 2}


def test_nested_nodes_are_built_first():
    sides = make(
        {
            "_target_": "modalities.prepare.Sides",
            "a": {"_target_": "modalities.image.prepare.ImagePrepare", "image_size": 8},
        },
        "x",
    )
    assert isinstance(sides, Sides)
    assert sides.sides["a"].image_size == 8
    assert isinstance(make(TEXT, "encoders.text"), TextEncoder)
    assert isinstance(make({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}, "x"), torch.nn.Linear)


def test_extra_arguments_go_only_where_they_are_taken():
    schedule = make(
        {"_target_": "pretrain.optim.schedules.Constant", "warmup_steps": 3}, "schedule", max_steps=9, nonsense=1
    )
    assert (schedule.max_steps, schedule.warmup_steps) == (9, 3)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (TEXT | {"widht": 3}, r"^unknown key 'encoders.text.widht'; did you mean 'width'\?"),
        (
            {k: v for k, v in TEXT.items() if k != "width"},
            r"^encoders.text lacks width \(of modalities.text.encoder.TextEncoder\)$",
        ),
        ({"width": 3}, "^encoders.text lacks _target_"),
        (None, "^encoders.text lacks _target_"),
        (TEXT | {"heads": 3}, "^encoders.text: heads=3 does not divide width=16$"),
        (TEXT | {"width": "wide"}, "^encoders.text: modalities.text.encoder.TextEncoder refuses .*width='wide'.*: "),
        (TEXT | {"heads": 0}, "^encoders.text: .*heads=0"),
        (TEXT | {"vocab_size": -5}, "^encoders.text: .*vocab_size=-5"),
        (
            TEXT | {"_target_": "modalities.text.encoder.TextEncodr"},
            r"'modalities.text.encoder' has no 'TextEncodr'; did you mean 'TextEncoder'\?",
        ),
        (TEXT | {"_target_": "modalities.text.encodr.TextEncoder"}, r"'modalities.text' has no 'encodr'"),
    ],
)
def test_wrong_nodes_are_named_with_their_place(node, message):
    with pytest.raises(InputError, match=message) as caught:
        make(node, "encoders.text")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.utils.cpp_extension.load",
        "data",
        "datas.errors.InputError",
        "modalities.text.tokenizer.Path",
        "modalities.text.tokenizer.hashlib.sha256",
        "data.loading.loader.torch.load",
        "data.shards.source.os.system",
        "data.shards.index.tempfile.NamedTemporaryFile",
        "pretrain.build.import_module",
        "pretrain.multirun.subprocess.run",
        "torch.nn.modules.module.functools.partial",
        "torch.nn.os.system",
        "torch.optim.lr_scheduler.types.FunctionType",
        "torchvision.os.system",
        "modalities.text.tokenizer.TextTokenizer.encode.__globals__",
        "modalities.contrastive._metrics",
        "modalities.layout.Layout.__init__",
        "modalities.objective.Objective.__class__.mro",
        "data.errors",
        "data.order.order._ROUNDS",
        "data.loading.loader.MAX_ATTEMPTS",
        "modalities..text",
        "modalities.text encoder",
    ],
)
def test_what_lies_outside_the_trusted_roots_is_refused_by_any_path(name):
    with pytest.raises(InputError, match="_target_"):
        locate(name, "x")


@pytest.mark.parametrize(
    "name",
    [
        "timm.models.load_checkpoint",
        "timm.models.load_pretrained",
        "timm.models.load_state_dict",
        "timm.models.build_model_with_cfg",
        "torchvision.models.get_model",
        "torchvision.models.get_weight",
    ],
)
def test_functions_beside_the_builders_of_models_are_refused(name):
    """They lie where builders do, and load what their arguments name."""
    with pytest.raises(InputError, match=f"'{name}' is .*, which is not to be built from a config"):
        locate(name, "x")


def test_an_own_package_is_trusted_when_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine_pkg.py").write_text(
        "import os\nfrom pathlib import Path\ndef encoder(a): return a\nsystem = os.system\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="not below a trusted root"):
        locate("mine_pkg.encoder", "x")
    assert make({"_target_": "mine_pkg.encoder", "a": 3}, "x", ("mine_pkg",)) == 3
    for name in ("mine_pkg.Path", "mine_pkg.system", "mine_pkg.os.system"):
        with pytest.raises(InputError):
            locate(name, "x", ("mine_pkg",))


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "needy_pkg.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="needs the package 'no_such_package_at_all', which is not installed"):
        locate("needy_pkg.Thing", "x", ("needy_pkg",))
