"""Causal-LM: GPT-2 of ``transformers`` with its standard collator, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from step_bench import flops, text
from step_bench.case import Case, Check, Ratio, Setup
from step_bench.documents import END, START, Collated, batches_of, collate_by, tokenizer_of
from step_bench.side import Ours, Peer

from modalities.text.causal_lm import CausalLM
from modalities.text.encoder import TextEncoder

SIZES = {
    "tiny": text.SIZES["tiny"],
    "small": text.SIZES["small"],
    # GPT-2 small; as many tokens a step as masked-LM has.
    "base": text.SIZES["base"] | {"vocabulary": 50257, "batch": 32, "mean": 400, "longest": 1024},
}


def gpt2(size: dict[str, int]) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size["vocabulary"], n_embd=size["width"], n_layer=size["depth"], n_head=size["heads"],
            n_positions=size["longest"], bos_token_id=START, eos_token_id=END, embd_pdrop=0.0, resid_pdrop=0.0,
            attn_pdrop=0.0, attn_implementation="sdpa",
            use_cache=False,  # of keys and values, which training has no use for
        )
    )  # fmt: skip


def our_gpt2(size: dict[str, int], theirs: torch.nn.Module) -> tuple[TextEncoder, CausalLM]:
    encoder = TextEncoder(
        size["vocabulary"], size["width"], size["depth"], size["heads"], causal=True, positions="learned",
        max_tokens=size["longest"], trunk={"activation": "tanh_gelu", "initialisation": "gpt2"},
    )  # fmt: skip
    return text.loaded(encoder, CausalLM(size["vocabulary"], bias=False), "gpt2", theirs)


class Work:
    """Useful FLOPs of a batch. What counts is each token that is predicted: of a sequence all but the first.

    Theirs is given the last token too, which predicts nothing.
    """

    def __init__(self, size: dict[str, int]) -> None:
        self.size = size

    def __call__(self, predicted: list[int]) -> tuple[float, float]:
        size, rows = self.size, sum(predicted)
        total = size["depth"] * flops.block(predicted, size["width"], 4 * size["width"], causal=True)
        total += flops.head(rows, size["width"], size["vocabulary"], dense=False)
        return float(rows), 3 * total


def case(setup: Setup) -> Case:
    """The sides, their ratio, and whether the losses are the same."""
    from transformers import DataCollatorForLanguageModeling

    size = SIZES[setup.size]
    batches, tokenizer = batches_of(size, setup.seed), tokenizer_of(size["vocabulary"])
    collate, work = collate_by(tokenizer, size["longest"], causal=True), Work(size)
    # Pads to the longest; their model compares each token of a document but the first, as ours.
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    base = (batches, setup.steps, setup.device, setup.dtype)

    def peer(name: str, model: torch.nn.Module, grouped: bool = False) -> Peer:
        collated = Collated(theirs, size["longest"] if grouped else None)
        return Peer(
            name, *base, model=model, collate=collated, forward=lambda b: model(**b).loss, compiled=setup.compiled,
            work=lambda _, b: work((b["attention_mask"].sum(1) - 1).tolist()),
        )  # fmt: skip

    torch.manual_seed(setup.seed)
    model = gpt2(size)
    encoder, objective = our_gpt2(size, model)
    ours = Ours(
        "ours gpt2", *base, encoders={"text": encoder}, objective=objective, collate=collate,
        compiled=setup.compiled, work=lambda b: work(b["text"]["layout"].lengths),
    )  # fmt: skip
    peers = {
        "hf gpt2": peer("hf gpt2", model),
        "hf gpt2, blocks": peer("hf gpt2, blocks", gpt2(size), grouped=True),
    }

    def checks() -> Iterator[Check]:
        mine, other = ours.loss(collate(batches(0), 0)), peers["hf gpt2"]
        with torch.no_grad(), other.autocast():
            given = {name: x.to(setup.device) for name, x in other.collate(batches(0)).items()}
            yield Check("ours gpt2", "hf gpt2", mine, float(other.forward(given)))

    lines = [Ratio("ours gpt2", ("hf gpt2",), 1.0)]  # no bar was asked: it is not to be slower
    return Case("causal-LM", text.UNIT, {"ours gpt2": ours} | peers, checks, lines, shares=("ours gpt2",))
