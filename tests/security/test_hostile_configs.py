"""Configs of somebody else that try to run code: none of them does, and each is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data.errors import InputError
from pretrain import config
from pretrain.cli import main
from pretrain.model import build_model
from tests.integration.runs import SMALL, wait

# What a config may touch if it can run anything at all, and what the interpreter says of it (sys.addaudithook).
_TELLTALE = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen")


class _Pickled:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def targets(bait: Path, canary: str) -> dict[str, dict[str, Any]]:
    """Name -> what is put in the place of an encoder, with arguments that would do the deed."""
    touch, code, pickled = f"touch {canary}", f"open({canary!r}, 'w')", str(bait / "evil.pth")
    node = {
        "os.system": {"command": touch},
        "posix.system": {"command": touch},
        "subprocess.run": {"args": touch, "shell": True},
        "subprocess.Popen": {"args": touch, "shell": True},
        "builtins.eval": {"source": code},
        "builtins.exec": {"source": code},
        "builtins.__import__": {"name": "evil_pkg"},
        "importlib.import_module": {"name": "evil_pkg"},
        "runpy.run_path": {"path_name": str(bait / "evil_pkg.py")},
        "pickle.loads": {"data": "x"},
        "ctypes.CDLL": {"name": "libc.so.6"},
        "evil_pkg.Anything": {},
        "hydra.utils.instantiate": {"config": {"_target_": "os.system", "command": touch}},
        "hydra.utils.get_method": {"path": "os.system"},
        "numpy.load": {"file": pickled, "allow_pickle": True},
        "yaml.unsafe_load": {"stream": f"!!python/object/apply:os.system ['{touch}']"},
        "webdataset.WebDataset": {"urls": f"pipe:{touch}"},
        "torch.load": {"f": pickled, "weights_only": False},
        "torch.jit.load": {"f": pickled},
        "torch.hub.load": {"repo_or_dir": str(bait), "model": "evil", "source": "local"},
        "torch.ops.load_library": {"path": str(bait / "evil.so")},
        "torch.utils.cpp_extension.load_inline": {"name": "evil", "cpp_sources": "int x;"},
        "torch.utils.data.os.system": {"command": touch},
        "torch.os.system": {"command": touch},
        "torch.nn.modules.module.torch.load": {"f": pickled, "weights_only": False},
        "torch.nn.functional.torch.hub.load": {"repo_or_dir": str(bait), "model": "evil", "source": "local"},
        "torch.nn.modules.module.warnings.sys.modules": {},
        "torch.nn.Module.load_state_dict": {"self": None, "state_dict": None},
        "torch.nn.init.warnings.warn": {"message": "x"},
        "torch.optim.lr_scheduler.types.FunctionType": {"code": None, "globals": {}},
        "torch.optim.Optimizer.load_state_dict": {"self": None, "state_dict": None},
        "torch.package.PackageImporter": {"file_or_buffer": pickled},
        "torch.fx.GraphModule": {"root": {}, "graph": None},
        "torch.distributed.run.run_script_path": {"training_script": str(bait / "evil_pkg.py")},
        "torchvision.io.write_file": {"filename": canary, "data": None},
        "torchvision.datasets.utils.download_url": {"url": f"file://{pickled}", "root": str(bait / "out")},
        "torchvision.transforms.functional.torch.load": {"f": pickled, "weights_only": False},
        "torchvision.models.get_model_weights": {"name": "resnet18"},
        "torchaudio.os.system": {"command": touch},
        "transformers.AutoModel.from_pretrained": {
            "pretrained_model_name_or_path": str(bait / "remote_code"),
            "trust_remote_code": True,
        },
        "transformers.AutoModel": {"trust_remote_code": True},
        "transformers.dynamic_module_utils.get_class_from_dynamic_module": {
            "class_reference": "modeling.Evil",
            "pretrained_model_name_or_path": str(bait / "remote_code"),
        },
        "transformers.pipeline": {"task": "x", "model": str(bait / "remote_code"), "trust_remote_code": True},
        "transformers.utils.import_utils.subprocess.run": {"args": touch, "shell": True},
        "timm.create_model": {"model_name": "resnet18", "checkpoint_path": pickled},
        "timm.models.create_model": {"model_name": f"local-dir:{bait / 'remote_code'}"},
        "timm.models.load_checkpoint": {"model": None, "checkpoint_path": pickled},
        "timm.models.load_state_dict": {"checkpoint_path": pickled, "weights_only": False},
        "data.stream.Stream": {
            "task": "t",
            "spec": f"pipe:{touch}",
            "seed": 0,
            "store": {"_target_": "data.store.store.Store", "allowed_pipes": [f"pipe:{touch}"]},
        },
        "data.store.store.subprocess.run": {"args": touch, "shell": True},
        "pretrain.cli.main": {"argv": ["--version"]},
        "pretrain.multirun.multirun": {"overrides": [], "config_dir": None},
        "pretrain.launch.launch": {"arguments": [], "devices": 1, "num_nodes": 1, "silence_s": 1.0},
        "pretrain.provenance.subprocess.run": {"args": touch, "shell": True},
        "pretrain.build.make": {"node": {"_target_": "os.system", "command": touch}, "where": "x", "roots": ["os"]},
        "modalities.text.tokenizer.Path": {},
        "modalities.text.tokenizer.TextTokenizer.encode.__globals__": {},
        "modalities.objective.Objective.__class__.mro": {},
    }
    return {name: {"_target_": name, **arguments} for name, arguments in node.items()}


def documents(bait: Path, canary: str) -> dict[str, str]:
    """Name -> a whole experiment file."""
    touch = f"touch {canary}"
    head = "# @package _global_\ndefaults:\n  - mlm_tiny\n  - _self_\n"
    call = f"{{_target_: os.system, command: '{touch}'}}"
    found = {f"place:{key}": f"{key}: {call}\n" for key in ("optimizer", "schedule", "logger", "evaluators", "alarms")}
    found |= {
        "place:logger.x": f"logger: {{x: {call}}}\n",
        "place:alarms.x": f"alarms: {{x: {call}}}\n",
        "place:evaluators.x": f"evaluators: {{x: {call}}}\n",
        "place:data.builder": f"data: {{builder: {call}}}\n",
        "place:prepare": f"tasks: {{mlm: {{prepare: {call}}}}}\n",
        "place:objective": f"tasks: {{mlm: {{objective: {call}}}}}\n",
        "place:nested argument": f"tasks: {{mlm: {{objective: {{vocab_size: {call}}}}}}}\n",
        "trust:itself": f"trusted_roots: [os, evil_pkg]\nencoders: {{text: {call}}}\n",
        "trust:a package": "trusted_roots: [evil_pkg]\nencoders: {text: {_target_: evil_pkg.Anything}}\n",
        "trust:a pipe": f"cache: {{allowed_pipes: ['pipe:{touch}']}}\ntasks: {{mlm: {{source: 'pipe:{touch}'}}}}\n",
        "pipe:source": f"tasks: {{mlm: {{source: 'pipe:{touch}'}}}}\n",
        "pipe:heldout": f"tasks: {{mlm: {{heldout: 'pipe:{touch}'}}}}\n",
        "yaml:python tag": f"name: !!python/object/apply:os.system ['{touch}']\n",
        "yaml:python name": "name: !!python/name:os.system\n",
        "yaml:python module": "name: !!python/module:evil_pkg\n",
        "interpolation:unknown resolver": f"name: ${{eval:'{touch}'}}\n",
        "hydra:callbacks": f"hydra: {{callbacks: {{x: {call}}}}}\noptimizer: {call}\n",
        "hydra:launcher": f"hydra: {{launcher: {call}}}\n",
        "timm:pretrained_cfg": "encoders: {text: {_target_: timm.create_model, pretrained_cfg: {file: evil.pth}}}\n",
        "kernels": "encoders: {text: {_target_: transformers.BertConfig, attn_implementation: evil/kernel}}\n",
        "nested:kernels": (
            "encoders: {text: {_target_: transformers.CLIPConfig, text_config: {attn_implementation: evil/kernel}}}\n"
        ),
        "nested:kernels by part": (
            "encoders: {text: {_target_: transformers.CLIPConfig, attn_implementation: {text_config: evil/kernel}}}\n"
        ),
        "nested:remote code": (
            "encoders: {text: {_target_: transformers.LlavaConfig, "
            "vision_config: {model_type: clip_vision_model, auto_map: {AutoModel: modeling.Evil}}}}\n"
        ),
        "nested:pickle": (
            "encoders: {text: {_target_: transformers.TimmWrapperConfig, architecture: resnet18, "
            f"model_args: {{checkpoint_path: {bait / 'evil.pth'}}}}}}}\n"
        ),
        "nested:hub": (
            "encoders: {text: {_target_: transformers.DetrConfig, "
            "backbone_config: {model_type: timm_backbone, backbone: ' local-dir:/evil'}}}\n"
        ),
    }
    return {name: head + text for name, text in found.items()}


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What hostile configs point at: packages, pickles and model folders that leave a trace when they run."""
    folder = tmp_path_factory.mktemp("bait")
    deed = f"open({str(folder / 'canary')!r}, 'w').close()\n"
    (folder / "evil_pkg.py").write_text(deed + "class Anything: pass\n")
    (folder / "hubconf.py").write_text(deed + "def evil(): pass\n")
    (folder / "evil.pth").write_bytes(pickle.dumps(_Pickled(str(folder / "canary"))))
    remote = folder / "remote_code"
    remote.mkdir()
    (remote / "modeling.py").write_text(deed + "class Evil: pass\n")
    (remote / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoModel": "modeling.Evil"}}')
    return folder


def attempt(bait: Path, text: str, overrides: tuple[str, ...] = ()) -> int:
    (bait / "experiment").mkdir(exist_ok=True)
    (bait / "experiment/hostile.yaml").write_text(text)
    small = [one for one in SMALL if one.startswith(("trainer.", "loader.", "evaluate.", "max_steps"))]
    return main(["--config-dir", str(bait), "experiment=hostile", *small, f"run_dir={bait / 'run'}", *overrides])


def test_the_bait_works(bait: Path, tmp_path: Path) -> None:
    """Negative control: what these files try would leave its trace."""
    canary = tmp_path / "canary"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(_Pickled(str(canary))))
    with pytest.raises(RuntimeError, match="Invalid magic number"):  # after the deed
        torch.load(tmp_path / "evil.pth", weights_only=False)
    assert canary.exists()


def test_no_config_runs_code(bait: Path, demo_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in one process that watches itself; the process is its own, as a success would not be undone."""
    monkeypatch.setenv("PRETRAIN_CACHE", demo_cache)
    canary = str(bait / "canary")
    hostile: dict[str, Any] = targets(bait, canary) | documents(bait, canary)
    assert len(hostile) >= 80
    report = bait / "report.json"
    pid = os.fork()
    if not pid:
        _watched(bait, hostile, report)
    assert wait(pid, 240) == 0
    found = json.loads(report.read_text())
    assert found["codes"] == dict.fromkeys(hostile, 2)
    assert found["seen"] == []
    assert not (bait / "canary").exists()


def built(composed: dict[str, Any], node: dict[str, Any]) -> int:
    """What :func:`attempt` would end with if ``node`` stood in the place of an encoder; composing takes most of it."""
    try:
        build_model(composed | {"encoders": {"text": node}})
    except InputError:
        return 2
    return 0


def _watched(bait: Path, hostile: dict[str, Any], report: Path) -> None:
    seen: list[str] = []
    quiet = os.open(bait / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path.insert(0, str(bait))
        codes, now = {}, [""]
        composed = config.load(["experiment=mlm_tiny", *SMALL[:1]])
        sys.addaudithook(lambda event, given: seen.append(f"{now[0]}: {event}") if event in _TELLTALE else None)
        for name, one in hostile.items():
            now[0] = name
            codes[name] = built(composed, one) if isinstance(one, dict) else attempt(bait, one)
            if (bait / "canary").exists():
                seen.append(f"{name}: canary")
                (bait / "canary").unlink()
        report.write_text(json.dumps({"codes": codes, "seen": seen}))
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("root", ["os", "subprocess", "builtins", "a-b", "torch.", ""])
def test_python_itself_is_not_trusted_even_if_asked(bait: Path, root: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert attempt(bait, "# @package _global_\ndefaults: [mlm_tiny]\n", (f"trusted_roots=['{root}']",)) == 2
    assert "trusted_roots" in capfd.readouterr().err


def test_trust_in_a_framework_opens_no_more_of_it(bait: Path) -> None:
    node = {"_target_": "torch.load", "f": str(bait / "evil.pth"), "weights_only": False}
    composed = config.load(["experiment=mlm_tiny", *SMALL[:1], "trusted_roots=[torch,transformers]"])
    with pytest.raises(InputError, match="not below a trusted root"):
        build_model(composed | {"encoders": {"text": node}})
    assert not (bait / "canary").exists()
