"""Masked-LM: BERT and ModernBERT of ``transformers`` with its standard collator, and the same two of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from step_bench import flops
from step_bench.case import Case, Check, Ratio, Setup
from step_bench.documents import END, SHARE, START, Collated, batches_of, collate_by, flat, tokenizer_of
from step_bench.side import Ours, Peer

from modalities.objective import Objective
from modalities.text.encoder import TextEncoder
from modalities.text.hf_names import from_hf
from modalities.text.masked_lm import MaskedLM

Learned = TypeVar("Learned", bound=Objective)
UNIT = "tokens"
SIZES = {
    "tiny": {
        "width": 32, "depth": 3, "heads": 2, "vocabulary": 200, "batch": 8, "mean": 60, "longest": 160, "window": 8,
    },
    "small": {
        "width": 256, "depth": 4, "heads": 4, "vocabulary": 30000, "batch": 16, "mean": 200, "longest": 512,
        "window": 64,
    },
    "base": {
        "width": 768, "depth": 12, "heads": 12, "vocabulary": 30522, "batch": 64, "mean": 200, "longest": 512,
        "window": 64,
    },
}  # fmt: skip


def bert(size: dict[str, int]) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=size["vocabulary"], hidden_size=size["width"], num_hidden_layers=size["depth"],
            num_attention_heads=size["heads"], intermediate_size=4 * size["width"],
            max_position_embeddings=size["longest"], attn_implementation="sdpa", hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def hidden_of(size: dict[str, int]) -> int:
    """Inner width of ModernBERT's perceptron: three gated matrices hold what BERT's two hold."""
    return int(round(8 / 3 * size["width"] / 8) * 8)


def modernbert(size: dict[str, int], sparse: bool) -> Any:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=size["vocabulary"], hidden_size=size["width"], num_hidden_layers=size["depth"],
            num_attention_heads=size["heads"], intermediate_size=hidden_of(size),
            max_position_embeddings=size["longest"], local_attention=2 * size["window"], pad_token_id=0,
            cls_token_id=START, sep_token_id=END, bos_token_id=START, eos_token_id=END, attn_implementation="sdpa",
            sparse_prediction=sparse,
        )
    )  # fmt: skip


def our_bert(size: dict[str, int], theirs: torch.nn.Module) -> tuple[TextEncoder, MaskedLM]:
    encoder = TextEncoder(
        size["vocabulary"], size["width"], size["depth"], size["heads"], norm="post", positions="learned",
        max_tokens=size["longest"], token_types=2,
        trunk={"norm_eps": 1e-12, "input_norm": True, "initialisation": "bert"},
    )  # fmt: skip
    return loaded(encoder, MaskedLM(size["width"], size["vocabulary"], norm_eps=1e-12), "bert", theirs)


def our_modernbert(size: dict[str, int], theirs: torch.nn.Module) -> tuple[TextEncoder, MaskedLM]:
    encoder = TextEncoder(
        size["vocabulary"], size["width"], size["depth"], size["heads"], hidden_of(size) / size["width"],
        trunk={
            "activation": "geglu", "bias": False, "norm_bias": False, "input_norm": True, "first_norm": False,
            "window": size["window"], "rotary_base": 160000.0, "local_rotary_base": 10000.0,
        },
    )  # fmt: skip
    objective = MaskedLM(size["width"], size["vocabulary"], head="modernbert")
    return loaded(encoder, objective, "modernbert", theirs)


def loaded(
    encoder: TextEncoder, objective: Learned, family: str, theirs: torch.nn.Module
) -> tuple[TextEncoder, Learned]:
    """With their weights."""
    state = from_hf(family, theirs.state_dict())
    for prefix, part in (("encoder.", encoder), ("objective.", objective)):
        mine = {name.removeprefix(prefix): value.clone() for name, value in state.items() if name.startswith(prefix)}
        part.load_state_dict(mine)
    return encoder, objective


class Work:
    """Useful FLOPs of a batch."""

    def __init__(self, size: dict[str, int], family: str) -> None:
        self.size, self.family = size, family

    def __call__(self, lengths: list[int], masked: int) -> tuple[float, float]:
        size, total = self.size, 0.0
        for number in range(size["depth"]):
            if self.family == "bert":
                total += flops.block(lengths, size["width"], 4 * size["width"])
            else:
                window = size["window"] if number % 3 else 0
                total += flops.block(lengths, size["width"], hidden_of(size), gated=True, window=window)
        total += flops.head(masked, size["width"], size["vocabulary"])
        return float(sum(lengths)), 3 * total


def case(setup: Setup) -> Case:
    """The sides, their ratios, and whether the losses are the same."""
    from transformers import DataCollatorForLanguageModeling

    size = SIZES[setup.size]
    batches, tokenizer = batches_of(size, setup.seed), tokenizer_of(size["vocabulary"])
    collate = collate_by(tokenizer, size["longest"])
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=SHARE)
    base = (batches, setup.steps, setup.device, setup.dtype)

    def mine(name: str, pair: tuple[TextEncoder, MaskedLM], family: str) -> Ours:
        work = Work(size, family)
        return Ours(
            name, *base, encoders={"text": pair[0]}, objective=pair[1], collate=collate, compiled=setup.compiled,
            work=lambda b: work(b["text"]["layout"].lengths, len(b["text"]["labels"])),
        )  # fmt: skip

    def peer(name: str, model: torch.nn.Module, family: str, grouped: bool = False) -> Peer:
        work = Work(size, family)
        collated = Collated(theirs, size["longest"] if grouped else None)
        return Peer(
            name, *base, model=model, collate=collated, forward=lambda b: model(**b).loss, compiled=setup.compiled,
            work=lambda _, b: work(b["attention_mask"].sum(1).tolist(), int((b["labels"] != -100).sum())),
        )  # fmt: skip

    torch.manual_seed(setup.seed)
    models = {"bert": bert(size), "modernbert": modernbert(size, sparse=True)}
    ours = {
        "ours bert": mine("ours bert", our_bert(size, models["bert"]), "bert"),
        "ours modernbert": mine("ours modernbert", our_modernbert(size, models["modernbert"]), "modernbert"),
    }
    peers = {
        "hf bert": peer("hf bert", models["bert"], "bert"),
        "hf modernbert": peer("hf modernbert", modernbert(size, sparse=False), "modernbert"),
        "hf modernbert sparse": peer("hf modernbert sparse", models["modernbert"], "modernbert"),
        "hf modernbert sparse, blocks": peer(
            "hf modernbert sparse, blocks", modernbert(size, sparse=True), "modernbert", grouped=True
        ),
    }

    def checks() -> Iterator[Check]:
        for family in ("bert", "modernbert"):
            given = dict(theirs([{"input_ids": ids.tolist()} for ids in batches(0)]))
            own = ours[f"ours {family}"]
            with torch.no_grad():
                model = models[family].eval()
                expected = float(model(**{name: x.to(setup.device) for name, x in given.items()}).loss)
                model.train()
            yield Check(f"ours {family}", f"hf {family}", own.loss(flat(given)), expected)

    lines = [
        Ratio("ours bert", ("hf bert",), 5.5),
        Ratio("ours bert", ("hf modernbert", "hf modernbert sparse"), 1.5),
        Ratio("ours modernbert", ("hf modernbert", "hf modernbert sparse"), 1.5),
        # Full blocks attend across documents, which is another task; no bar was asked: ours is not to be slower.
        Ratio("ours modernbert", ("hf modernbert sparse, blocks",), 1.0),
    ]
    return Case("masked-LM", UNIT, ours | peers, checks, lines, shares=("ours bert", "ours modernbert"))
