import pytest
import torch

from data.write import write
from pretrain.checkpoint import Content, publish
from pretrain.model import build_model, tokenizers
from pretrain.run import STARTS, RunDirectory
from tests.conftest import png, sentence, wav
from tests.modalities.parity.numbers import randomise
from tests.pretrain.embedding.small import SMALL, composed

TASKS = ("mlm", "clip", "clap", "wav2vec")


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory, tokenizer_path):
    """make(folder, steps) -> a run directory with a checkpoint of other random weights at each of the steps."""
    shards = tmp_path_factory.mktemp("heldout")
    samples = ((f"own-{n:03d}", {"txt": sentence(n).encode(), "png": png(n), "wav": wav(n)}) for n in range(24))
    write(samples, shards, "own")
    source = f"{shards}/own-*.tar"
    own = ["evaluate.samples=24", "evaluate.batch_size=8", "max_steps=9", "~evaluators.image_audio"]
    own += [f"tasks.{task}.heldout={source if task == 'clip' else 'null'}" for task in TASKS]
    own += [f"tasks.{task}.source={source}" for task in TASKS]

    def make(folder, steps, average=False):
        data = ["data=shards", "data.folder=none", f"data.tokenizer={tokenizer_path}", f"run_dir={folder}"]
        resolved = composed(folder, tokenizer_path, [*SMALL, *own])
        directory = RunDirectory(str(folder), rank=-1)
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.freeze_config(resolved, {"step": 0, "overrides": [*data, *SMALL, *own]})
        assert list(directory.rows(STARTS))
        for step in steps:
            publish_step(directory, resolved, step, average)
        return directory

    make.source = source
    return make


def publish_step(directory, resolved, step, average=False):
    """A checkpoint of random weights that are others at each step; returns the model."""
    model = build_model(resolved)
    randomise(model)
    draw = torch.Generator().manual_seed(100 * step + resolved["seed"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    state = {
        "step": step,
        "positions": dict.fromkeys(model.tasks, step),
        "config": {key: resolved[key] for key in ("seed", "order", "encoders", "tasks")},
        "tokenizers": tokenizers(model),
    }
    ema = {name: 0.5 * p.detach() for name, p in model.named_parameters()} if average else {}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    publish(directory.checkpoints, Content(weights, {"none": torch.zeros(1)}, state, ema))
    return model
