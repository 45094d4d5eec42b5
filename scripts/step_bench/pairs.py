"""Image-text contrastive learning: open_clip and CLIP of ``transformers``, captions padded to the context, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from step_bench import flops
from step_bench.case import Case, Check, Ratio, Setup
from step_bench.side import Ours, Peer
from torch import Tensor, nn

from modalities.contrastive import Contrastive
from modalities.hf_names import Name, Parts, Table, blocks, plain, to_ours, to_theirs
from modalities.image.encoder import ImageEncoder
from modalities.image.hf_names import clip_vision
from modalities.layout import Layout
from modalities.text.clip_names import clip_text
from modalities.text.encoder import TextEncoder

SIZES = {
    "tiny": {"image": 32, "patch": 8, "width": 32, "text_width": 32, "depth": 2, "heads": 2, "text_heads": 2,
             "joint": 16, "context": 24, "vocabulary": 200, "batch": 6},
    "small": {"image": 96, "patch": 16, "width": 256, "text_width": 256, "depth": 4, "heads": 4, "text_heads": 4,
              "joint": 256, "context": 77, "vocabulary": 49408, "batch": 32},
    "base": {"image": 224, "patch": 16, "width": 768, "text_width": 512, "depth": 12, "heads": 12, "text_heads": 8,
             "joint": 512, "context": 77, "vocabulary": 49408, "batch": 256},
}  # fmt: skip
CAPTION = 14  # tokens on average, both end marks counted
_BLOCK: Parts = {"attention_norm": "ln_1", "attention_out": "attn.out_proj", "mlp_norm": "ln_2", "mlp_in": "mlp.c_fc",
                 "mlp_out": "mlp.c_proj"}  # fmt: skip


class Samples(NamedTuple):
    """Pictures (N, 3, side, side) uint8 and captions of different lengths."""

    pixels: Tensor
    captions: list[np.ndarray]


def samples(size: dict[str, int], number: int, seed: int) -> Samples:
    """Random ones; the two largest ids begin and end a caption."""
    rng = np.random.default_rng((seed, number))
    lengths = np.clip(rng.lognormal(np.log(CAPTION) - 0.125, 0.5, size["batch"]).round(), 4, size["context"]).astype(
        int
    )
    captions = []
    for n in lengths:
        ids = rng.integers(1, size["vocabulary"] - 2, n)
        ids[0], ids[-1] = size["vocabulary"] - 2, size["vocabulary"] - 1
        captions.append(ids)
    shape = (size["batch"], 3, size["image"], size["image"])
    return Samples(torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)), captions)


def hf_clip(size: dict[str, int]) -> Any:
    from transformers import CLIPConfig, CLIPModel

    def tower(width: int, heads: int) -> dict[str, Any]:
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": size["depth"]}
        return sizes | {"num_attention_heads": heads, "hidden_act": "gelu"}  # open_clip's; a kernel of its own

    config = CLIPConfig(
        text_config=tower(size["text_width"], size["text_heads"])
        | {"vocab_size": size["vocabulary"], "max_position_embeddings": size["context"], "pad_token_id": 0}
        | {"bos_token_id": size["vocabulary"] - 2, "eos_token_id": size["vocabulary"] - 1},
        vision_config=tower(size["width"], size["heads"]) | {"image_size": size["image"], "patch_size": size["patch"]},
        projection_dim=size["joint"],
    )
    config._attn_implementation = "sdpa"
    return CLIPModel(config)


def open_clip_model(size: dict[str, int]) -> Any:
    from open_clip.model import CLIP

    vision = {"image_size": size["image"], "patch_size": size["patch"], "width": size["width"]}
    text = {"context_length": size["context"], "vocab_size": size["vocabulary"], "width": size["text_width"]}
    return CLIP(
        size["joint"],
        vision | {"layers": size["depth"], "head_width": size["width"] // size["heads"]},
        text | {"layers": size["depth"], "heads": size["text_heads"]},
    )


def our_towers(size: dict[str, int]) -> tuple[dict[str, Any], Contrastive]:
    image = ImageEncoder(
        size["image"], size["patch"], size["width"], size["depth"], size["heads"], pool="first", patch_bias=False,
        pooled_norm=True, trunk={"input_norm": True, "initialisation": "clip"},
    )  # fmt: skip
    text = TextEncoder(
        size["vocabulary"], size["text_width"], size["depth"], size["text_heads"], causal=True, positions="learned",
        max_tokens=size["context"], pool="last", trunk={"initialisation": "clip"},
    )  # fmt: skip
    objective = Contrastive(size["joint"])
    encoders = {"a": image, "b": text}
    objective.connect(encoders)
    return encoders, objective


def tables(size: dict[str, int]) -> tuple[Table, Table]:
    depth = size["depth"]
    return clip_vision(depth, size["width"], size["patch"], size["joint"]), clip_text(depth, size["joint"])


def to_open_clip(size: dict[str, int], image: dict[str, Tensor], text: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our towers under the names of open_clip."""
    width, patch, projection = size["width"], size["patch"], f"projections.{size['joint']}.weight"

    def trunk(prefix: str) -> Table:
        layers = {n: f"{prefix}.resblocks.{n}" for n in range(size["depth"])}
        joined = [
            Name(f"trunk.blocks.{n}.attention_in.{part}", (f"{layer}.attn.in_proj_{part}",))
            for n, layer in layers.items()
            for part in ("weight", "bias")
        ]
        return joined + blocks(size["depth"], layers.__getitem__, _BLOCK)

    shapes = ((width, 3 * patch * patch), (width, 3, patch, patch))
    pictures = [
        Name("class_token", ("visual.class_embedding",)),
        Name("positions", ("visual.positional_embedding",)),
        Name("patch_embedding.weight", ("visual.conv1.weight",), *shapes),
        *plain("trunk.input_norm", "visual.ln_pre"),
        *trunk("visual.transformer"),
        *plain("pooled_norm", "visual.ln_post"),
    ]
    words = [
        Name("token_embedding.weight", ("token_embedding.weight",)),
        Name("position_embedding.weight", ("positional_embedding",)),
        *trunk("transformer"),
        *plain("trunk.norm", "ln_final"),
    ]
    turned = {"visual.proj": image[projection].t(), "text_projection": text[projection].t()}
    return to_theirs(pictures, image) | to_theirs(words, text) | turned


class Work:
    """Useful FLOPs: captions as long as they are."""

    def __init__(self, size: dict[str, int]) -> None:
        self.size = size

    def __call__(self, given: Samples) -> tuple[float, float]:
        size, pairs = self.size, len(given.captions)
        patches = (size["image"] // size["patch"]) ** 2
        lengths, width, text_width = list(map(len, given.captions)), size["width"], size["text_width"]
        total = size["depth"] * flops.block([patches + 1] * pairs, width, 4 * width)
        total += size["depth"] * flops.block(lengths, text_width, 4 * text_width, causal=True)
        total += 2.0 * pairs * (width + text_width) * size["joint"] + 2.0 * pairs * pairs * size["joint"]
        first = pairs * patches * 2.0 * 3 * size["patch"] ** 2 * width
        return float(pairs), 3 * total + 2 * first


def case(setup: Setup) -> Case:
    """The sides, their ratios, and whether the losses are the same."""
    from open_clip import ClipLoss

    size = SIZES[setup.size]
    torch.manual_seed(setup.seed)
    known = [samples(size, number, setup.seed) for number in range(4)]
    encoders, objective = our_towers(size)
    hugging, other = hf_clip(size), open_clip_model(size)
    for encoder, table in zip(encoders.values(), tables(size), strict=True):
        encoder.load_state_dict({name: x.clone() for name, x in to_ours(table, hugging.state_dict()).items()})
    state = to_open_clip(size, *(dict(encoder.state_dict()) for encoder in encoders.values()))
    other.load_state_dict({name: x.clone() for name, x in state.items()} | {"logit_scale": objective.logit_scale})
    nn.init.constant_(hugging.logit_scale, objective.logit_scale.item())
    mean, spread = encoders["a"].mean, encoders["a"].spread
    # As their loaders hand them over: normalised floats, captions padded to the context; none of it is timed.
    pixels = [(given.pixels.float() - mean) / spread for given in known]
    padded = [pad(given.captions, size["context"]) for given in known]
    which = {id(given): number for number, given in enumerate(known)}
    work, loss = Work(size), ClipLoss()
    base = (lambda number: known[number % 4], setup.steps, setup.device, setup.dtype)

    def collate(given: Samples, number: int) -> dict[str, Any]:
        tokens = torch.from_numpy(np.concatenate(given.captions))
        count = len(given.captions)
        text = {"tokens": tokens, "layout": Layout(list(map(len, given.captions))), "size": count}
        return {"size": count, "a": {"pixels": given.pixels}, "b": text}

    def lengths_of(batch: Any) -> tuple[float, float]:
        runs = np.split(np.zeros(batch["b"]["layout"].total), np.cumsum(batch["b"]["layout"].lengths)[:-1])
        return work(Samples(batch["a"]["pixels"], runs))

    ours = Ours(
        "ours", *base, encoders=encoders, objective=objective, collate=collate, work=lengths_of, compiled=setup.compiled
    )

    def hf_loss(batch: Any) -> Tensor:
        return hugging(**batch, return_loss=True).loss

    def open_clip_loss(batch: Any) -> Tensor:
        return loss(*other(batch["image"], batch["text"])[:3])

    def for_hf(given: Samples) -> dict[str, Tensor]:
        number = which[id(given)]
        mask = (torch.arange(size["context"]) < torch.tensor(list(map(len, given.captions)))[:, None]).long()
        return {"input_ids": padded[number], "pixel_values": pixels[number], "attention_mask": mask}

    def for_open_clip(given: Samples) -> dict[str, Tensor]:
        return {"image": pixels[which[id(given)]], "text": padded[which[id(given)]]}

    peers = {
        "open_clip": Peer(
            "open_clip", *base, model=other, collate=for_open_clip, forward=open_clip_loss, compiled=setup.compiled,
            work=lambda given, _: work(given),
        ),
        "hf clip": Peer(
            "hf clip", *base, model=hugging, collate=for_hf, forward=hf_loss, compiled=setup.compiled,
            work=lambda given, _: work(given),
        ),
    }  # fmt: skip

    def checks() -> Iterator[Check]:
        mine = ours.loss(collate(known[0], 0))
        for name, peer in peers.items():
            with torch.no_grad(), peer.autocast():
                given = {key: x.to(setup.device) for key, x in peer.collate(known[0]).items()}
                yield Check("ours", name, mine, float(peer.forward(given)))

    lines = [Ratio("ours", ("open_clip",), 2.0)]
    return Case("pairs", "pairs", {"ours": ours} | peers, checks, lines, shares=("ours",))


def pad(captions: list[np.ndarray], context: int) -> Tensor:
    """(N, context) int64, zeros behind the end mark."""
    ids = np.zeros((len(captions), context), dtype=np.int64)
    for row, caption in zip(ids, captions, strict=True):
        row[: len(caption)] = caption
    return torch.from_numpy(ids)
