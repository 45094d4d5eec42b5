"""What the parity tests of the text families share: their classes one text at a time, ours all texts end to end."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from modalities.layout import Layout
from modalities.objective import Step
from modalities.text.encoder import TextEncoder
from modalities.text.hf_names import from_hf
from pretrain.build import make
from tests.modalities.parity.numbers import gradients

VOCABULARY = 97
LENGTHS = [7, 19, 1, 12, 12, 30]
FOLDER = Path(__file__).parents[3] / "conf" / "encoder"


def batch(masked):
    """Random texts; labels at some places (``masked``), or everywhere, those of the next token."""
    draw = torch.manual_seed(3)
    total = sum(LENGTHS)
    tokens = torch.randint(0, VOCABULARY, (total,), generator=draw)
    text = {"tokens": tokens, "layout": Layout(LENGTHS), "labels": torch.randint(0, VOCABULARY, (total,))}
    if masked:
        text["masked"] = torch.randperm(total, generator=draw)[:21].sort().values
        text["labels"] = text["labels"][text["masked"]]
    return {"text": text, "size": len(LENGTHS)}


def labels_of(text):
    """(T,) labels, -100 where there is none."""
    if "masked" not in text:
        return text["labels"]
    return torch.full_like(text["tokens"], -100).index_put((text["masked"],), text["labels"])


def one_by_one(model, text, **more):
    """Hidden states and logits (T, ...) and the mean loss of a class of transformers, no padding anywhere."""
    hidden, logits = [], []
    for ids in text["tokens"].split(LENGTHS):
        out = model(input_ids=ids[None], output_hidden_states=True, **more)
        hidden.append(out.hidden_states[-1][0])
        logits.append(out.logits[0])
    logits = torch.cat(logits)
    return torch.cat(hidden), logits, torch.nn.functional.cross_entropy(logits, labels_of(text))


def state_of(encoder, objective):
    parts = (("encoder", encoder), ("objective", objective))
    return {f"{prefix}.{name}": value for prefix, part in parts for name, value in part.state_dict().items()}


def load(encoder, objective, state):
    """Loads what ``from_hf`` made, strictly."""
    for prefix, part in (("encoder.", encoder), ("objective.", objective)):
        dtype = next(iter(state.values())).dtype
        mine = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        part.to(dtype).train().load_state_dict(mine)


def trained(encoder, objective, given):
    """Mean loss and gradients by our names."""
    metrics = objective.step({"text": encoder}, [given], Step(), 1.0)
    parts = {"encoder": encoder, "objective": objective}
    found = {f"{prefix}.{name}": value for prefix, part in parts.items() for name, value in gradients(part).items()}
    return metrics["loss"], found


def their_gradients(family, model, loss):
    loss.backward()
    return from_hf(family, gradients(model))


def small(name, **changed):
    """The encoder of a config of published size, made small but for the settings that define the family."""
    node = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    trunk = node.pop("trunk") | changed.pop("trunk", {})
    trunk |= {"input_dropout": 0.0}
    del node["_target_"]
    torch.manual_seed(0)
    return TextEncoder(
        **(node | {"vocab_size": VOCABULARY, "width": 32, "heads": 4, "dropout": 0.0, "trunk": trunk} | changed)
    )


def count(name, objective):
    """Parameters of a config of published size and an objective's, on the meta device; ``objective`` of (D, V)."""
    with torch.device("meta"):
        encoder = make(OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml")), name)
        head = objective(encoder.width, encoder.vocab_size)
    return sum(p.numel() for part in (encoder, head) for p in part.parameters()), state_of(encoder, head)
