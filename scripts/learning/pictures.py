"""CLIP on drawings and photos with captions, beside open_clip: its model, tokenizer and loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning.race import Contest, Racer
from PIL import Image
from step_bench.pairs import open_clip_model, our_towers, pad, to_open_clip
from step_bench.side import Ours, Peer

from modalities.layout import Layout
from modalities.objective import Step

SIZE = {"image": 64, "patch": 8, "width": 128, "text_width": 128, "depth": 4, "heads": 4, "text_heads": 4,
        "joint": 128, "context": 77, "vocabulary": 49408, "batch": 64}  # fmt: skip
ROOM = 8  # pixels by which a crop may move
Pair = tuple[np.ndarray, np.ndarray]  # (side, side, 3) uint8, ids


def pairs(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Of the parts ``train`` and ``val``: stamps with their English captions, clothes with the name of their kind."""
    from open_clip.tokenizer import SimpleTokenizer

    known: dict[str, np.ndarray] = {}
    tokenizer = SimpleTokenizer(context_length=SIZE["context"])
    parts: dict[str, list[Pair]] = {"train": [], "val": []}
    for folder, name in (("stamps", "stamps.jsonl"), ("clothing", "labels.jsonl")):
        for line in (data / folder / name).read_text().splitlines():
            row = json.loads(line)
            caption = row["captions"].get("en") if "captions" in row else f"a photo of a {row['label']}"
            if caption:
                if caption not in known:
                    ids = tokenizer([caption])[0].numpy()
                    known[caption] = ids[: ids.argmax() + 1]  # the end mark is the largest id
                parts[row["split"]].append((picture(data / folder / row["file"]), known[caption]))
    return parts["train"], parts["val"]


def picture(path: Path) -> np.ndarray:
    side = SIZE["image"] + ROOM
    with Image.open(path) as found:
        whole = found.convert("RGB")
        short = min(whole.size)
        left, top = ((n - short) // 2 for n in whole.size)
        return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + short, top + short)))


def cut(chosen: list[Pair], rng: np.random.Generator | None) -> tuple[torch.Tensor, list[np.ndarray]]:
    """Pictures (N, 3, side, side) uint8, cropped and turned around by chance or in the middle, and captions."""
    side, found = SIZE["image"], []
    for whole, _ in chosen:
        top, left = rng.integers(0, ROOM + 1, 2) if rng is not None else (ROOM // 2, ROOM // 2)
        part = whole[top : top + side, left : left + side]
        found.append(part[:, ::-1] if rng is not None and rng.random() < 0.5 else part)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous(), [ids for _, ids in chosen]


def contest(data: Path, seed: int) -> Contest:
    from open_clip import ClipLoss

    train, held = pairs(data)
    batch = SIZE["batch"]
    order = np.random.default_rng(seed).permutation(len(held))[: len(held) // batch * batch].reshape(-1, batch)
    kept = [cut([held[i] for i in part], None) for part in order]
    torch.manual_seed(seed)
    model = open_clip_model(SIZE)
    encoders, objective = our_towers(SIZE)
    parts = [dict(encoder.state_dict()) for encoder in encoders.values()]
    state = {name: x.clone() for name, x in to_open_clip(SIZE, *parts).items()}
    model.load_state_dict(state | {"logit_scale": objective.logit_scale.detach().clone()})
    mean, spread, loss = encoders["a"].mean, encoders["a"].spread, ClipLoss()

    def batches(number: int) -> Any:
        epoch, place = divmod(number, len(train) // batch)
        chosen = np.random.default_rng((seed, epoch)).permutation(len(train))[place * batch : (place + 1) * batch]
        pixels, captions = cut([train[i] for i in chosen], np.random.default_rng((seed, number, 1)))
        return pixels, captions, (pixels.float() - mean) / spread  # the last as open_clip's loader hands it over

    def ours_of(given: Any, number: int = 0) -> dict[str, Any]:
        pixels, captions = given[:2]
        tokens, count = torch.from_numpy(np.concatenate(captions)), len(captions)
        text = {"tokens": tokens, "layout": Layout(list(map(len, captions))), "size": count}
        return {"size": count, "a": {"pixels": pixels}, "b": text}

    def theirs_of(given: Any) -> dict[str, torch.Tensor]:
        return {"image": given[2], "text": pad(given[1], SIZE["context"])}

    def forward(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss(*model(given["image"], given["text"])[:3])

    base = (batches, 1, torch.device("cpu"), torch.float32)
    nothing = (0.0, 0.0)
    ours = Ours("ours", *base, encoders=encoders, objective=objective, collate=ours_of, work=lambda _: nothing)
    peer = Peer("open_clip", *base, model=model, collate=theirs_of, forward=forward, work=lambda *_: nothing)

    def our_loss() -> float:
        ours.parts.eval()
        found = [objective.measure(encoders, [ours_of(given)], Step())["loss"]["value"] for given in kept]
        ours.parts.train()
        return float(np.mean(found))

    def their_loss() -> float:
        model.eval()
        with torch.no_grad():
            found = [float(forward(theirs_of((*given, (given[0].float() - mean) / spread)))) for given in kept]
        model.train()
        return float(np.mean(found))

    shape = f"{SIZE['image']} px, patches of {SIZE['patch']}"
    size = f"{shape}, width {SIZE['width']}, {SIZE['depth']} blocks a tower, {batch} pairs"
    data_words = f"{len(train):,} stamps and clothes; held out: {order.size}"
    return Contest(
        "CLIP, stamps and clothing", data_words, "open_clip, captions padded to 77", size, Racer(ours, our_loss),
        Racer(peer, their_loss), batch, 5e-4,
    )  # fmt: skip
