"""Two processes that share a step compute the gradients of one process that has all of it."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from data.loading.loader import StepLoader, TaskData
from data.stream import Stream
from modalities.contrastive import Contrastive
from modalities.image.encoder import ImageEncoder
from modalities.image.prepare import ImagePrepare
from modalities.objective import Step
from modalities.prepare import Sides
from modalities.text.encoder import TextEncoder
from modalities.text.masked_lm import MaskedLM, MaskedText
from modalities.text.prepare import TextPrepare
from pretrain.gradients import Gradients
from pretrain.model import Model
from pretrain.steps import TrainerStep

CPU = torch.device("cpu")


def compute(kind, source, tokenizer_path, vocab_size, micro, step, rank=0, world_size=1):
    torch.manual_seed(0)
    text = TextEncoder(vocab_size, 32, 2, 4)
    if kind == "masked_lm":
        encoders, objective, prepare = {"text": text}, MaskedLM(32, vocab_size), MaskedText(tokenizer_path, 24)
    else:
        encoders, objective = {"a": ImageEncoder(16, 4, 32, 2, 4), "b": text}, Contrastive(16)
        objective.connect(encoders)
        prepare = Sides(a=ImagePrepare(16), b=TextPrepare(tokenizer_path, 24))
    data = TaskData(Stream("t", source, 0), prepare, 8, micro)
    batches = next(iter(StepLoader({"t": data}, 0, 1, rank, world_size))).tasks["t"]
    metrics = objective.step(encoders, batches, step, 0.7)
    modules = torch.nn.ModuleList([*encoders.values(), objective])
    return {name: float(v) for name, v in metrics.items()}, {n: p.grad for n, p in modules.named_parameters()}


def on_rank(rank, world_size, store, out, *arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    gradients, model = Gradients(torch.nn.Module(), rank, world_size), Model({}, {})
    module = SimpleNamespace(
        gradients=gradients, model=model, manual_backward=lambda loss: loss.backward(), seed=0, device=CPU
    )
    torch.save(compute(*arguments, TrainerStep(module, 0, "t"), rank, world_size), f"{out}-{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("micro", [None, 2, 3])
@pytest.mark.parametrize("kind", ["masked_lm", "image_text"])
def test_gradients_summed_over_two_processes_are_those_of_one(
    shards, kind, micro, tokenizer_path, vocab_size, tmp_path
):
    source = shards(count=9, members=("txt", "png"), max_bytes=10**7)
    arguments = (kind, source, tokenizer_path, vocab_size)
    metrics, whole = compute(*arguments, None, Step())
    context = torch.multiprocessing.get_context("fork")
    processes = [
        context.Process(target=on_rank, args=(rank, 2, tmp_path / "store", tmp_path / "out", *arguments, micro))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    shares = [torch.load(tmp_path / f"out-{rank}") for rank in range(2)]
    for name, value in metrics.items():
        assert all(share[0][name] == pytest.approx(value, rel=1e-6) for share in shares), name
    norm = torch.cat([g.flatten() for g in whole.values() if g is not None]).double().norm()
    for name, grad in whole.items():
        parts = [share[1][name] for share in shares]
        assert all((part is None) == (grad is None) for part in parts), name
        if grad is not None:
            assert (sum(parts).double() - grad.double()).norm() < 1e-6 * norm, name
            assert (
                not torch.allclose(parts[0], grad, rtol=1e-3, atol=1e-3 * float(norm) / len(whole))
                or grad.norm() < 1e-2 * norm
            )
