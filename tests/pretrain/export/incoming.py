"""Models that begin with the weights of a folder, and what comes out of them again."""

from safetensors.torch import load_file

from pretrain.cli import main
from pretrain.export.initialise import initialise
from pretrain.model import build_model
from pretrain.run import RunDirectory
from tests.pretrain.export.families import OVERRIDES, composed, save

FILE = "model.safetensors"


def begun(tmp_path, tokenizer, family, place, *more):
    """A model that begins with the weights in ``place``."""
    resolved = composed(tmp_path / "run", tokenizer, [*OVERRIDES[family], *more])
    resolved["init_from"] = place if isinstance(place, dict) else str(place)
    model = build_model(resolved)
    initialise(resolved, model)
    return resolved, model


def exported(tmp_path, resolved, model, *arguments):
    directory = RunDirectory(str(tmp_path / "run"))
    directory.freeze_config(resolved, {"step": 0})
    save(directory, resolved, model)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), *arguments]) == 0
    return load_file(tmp_path / "out" / FILE)
