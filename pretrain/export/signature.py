"""What goes into a graph and what comes out of it: names, dimensions, and inputs to try it with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data.errors import InputError
from pretrain.export.plan import Plan
from pretrain.export.probes import SEED

Sizes = dict[str, int]
MEANINGS = {
    "input_ids": "int64, numbers of the tokenizer",
    "attention_mask": "int64, 1 at tokens and 0 at the padding behind them",
    "pixel_values": "float32, as the folder's preprocessor_config.json says",
    "input_values": "float32, clips of one length with mean 0 and variance 1",
    "last_hidden_state": "features of each token or frame",
    "logits": "of each token, over the vocabulary",
    "pooler_output": "one vector each",
    "text_embeds": "place in the joint space",
    "image_embeds": "place in the joint space",
    "logits_per_image": "similarities with the learned temperature, pictures by texts",
}
"""Input or output -> what a user must know of it."""
TEXT, PICTURES, SOUND = ("input_ids", "attention_mask"), ("pixel_values",), ("input_values",)
FORMS = {
    "BertModel": (TEXT, ("last_hidden_state",)),
    "BertForMaskedLM": (TEXT, ("last_hidden_state", "logits")),
    "ModernBertModel": (TEXT, ("last_hidden_state",)),
    "ModernBertForMaskedLM": (TEXT, ("last_hidden_state", "logits")),
    "GPT2Model": (TEXT, ("last_hidden_state",)),
    "GPT2LMHeadModel": (TEXT, ("last_hidden_state", "logits")),
    "CLIPTextModel": (TEXT, ("pooler_output",)),
    "CLIPTextModelWithProjection": (TEXT, ("text_embeds",)),
    "CLIPVisionModel": (PICTURES, ("pooler_output",)),
    "CLIPVisionModelWithProjection": (PICTURES, ("image_embeds",)),
    "CLIPModel": (TEXT + PICTURES, ("image_embeds", "text_embeds", "logits_per_image")),
    "Wav2Vec2Model": (SOUND, ("last_hidden_state",)),
}
"""Class of ``transformers`` -> inputs and outputs of its graph; each output is one that its plan's probe compares."""
TRIED = 512
"""Tokens of the longest text that is tried at most."""


@dataclass(frozen=True)
class Signature:
    """Of one graph.

    Attributes:
        inputs: input -> its dimensions, a name for each that is free.
        outputs: in the graph's order.
        least: free dimension -> smallest size.
        most: free dimension -> largest size, those that have one.
        vocabulary: token ids are below; 0 where there are none.
        end: token at which texts are pooled, if one is known.
    """

    inputs: dict[str, tuple[str | int, ...]]
    outputs: tuple[str, ...]
    least: Sizes
    most: Sizes
    vocabulary: int
    end: int | None

    def batch(self, sizes: Sizes) -> dict[str, Tensor]:
        """Random inputs; of several texts every second one is half padding.

        Args:
            sizes: free dimension -> size.
        """
        draw = torch.Generator().manual_seed(SEED)
        shapes = {k: [sizes[d] if isinstance(d, str) else d for d in dims] for k, dims in self.inputs.items()}
        found = {k: torch.randn(shape, generator=draw) for k, shape in shapes.items() if k not in TEXT}
        if "input_ids" in shapes:
            texts, tokens = shapes["input_ids"]
            ids = torch.randint(0, self.vocabulary, (texts, tokens), generator=draw)
            mask = torch.ones_like(ids)
            mask[1::2, (tokens + 1) // 2 :] = 0
            if self.end is not None:
                ids[ids == self.end] = (self.end + 1) % self.vocabulary
                ids[torch.arange(texts), mask.sum(1) - 1] = self.end
            found |= {"input_ids": ids * mask, "attention_mask": mask}
        return {name: found[name] for name in self.inputs}  # a graph's inputs have an order as well

    def tried(self) -> Iterator[Sizes]:
        """Three sets of sizes: all the smallest, all large, and one between."""
        for part in (0.0, 1.0, 0.3):
            yield {name: self._size(name, part) for name in self.least}

    def _size(self, name: str, part: float) -> int:
        least = self.least[name]
        most = min(self.most.get(name, TRIED), TRIED) if name == "tokens" else 32000 if name == "samples" else 5
        return least + int(part * max(0, most - least))


def signature_of(plan: Plan) -> Signature:
    """The signature of the graph of what ``plan`` writes.

    Raises:
        InputError: its class is one that no graph is made of.
    """
    if plan.architecture not in FORMS:
        raise InputError(
            f"no graph is made of {plan.architecture}, whose head serves training alone; give --encoder NAME for the "
            f"encoder without it, or --format hf; choices: {', '.join(FORMS)}"
        )
    names, outputs = FORMS[plan.architecture]
    pair = set(names) > set(TEXT)
    dims: dict[str, tuple[str | int, ...]] = {
        **dict.fromkeys(TEXT, ("texts" if pair else "batch", "tokens")),
        "pixel_values": ("pictures" if pair else "batch", 3, *_sides(plan.config)),
        "input_values": ("batch", "samples"),
    }
    inputs = {name: dims[name] for name in names}
    free = {dim for shape in inputs.values() for dim in shape if isinstance(dim, str)}
    least = dict.fromkeys(sorted(free), 1)
    if "tokens" in free:
        least["tokens"] = 2
    if "samples" in free:
        least["samples"] = _samples(plan.config)
    words = plan.config.get("text_config", plan.config)
    most = {"tokens": plan.longest} if "tokens" in free else {}
    vocabulary = int(words["vocab_size"]) if "tokens" in free else 0
    return Signature(inputs, outputs, least, most, vocabulary, words.get("eos_token_id"))


def _sides(config: dict[str, Any]) -> tuple[int, int]:
    side = int(config.get("vision_config", config).get("image_size", 0))
    return side, side


def _samples(config: dict[str, Any]) -> int:
    """Samples of two frames, the least that the tracer can keep free."""
    samples = 2
    for kernel, stride in zip(reversed(config["conv_kernel"]), reversed(config["conv_stride"]), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
