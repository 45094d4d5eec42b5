"""wav2vec 2.0 on spoken words, beside ``Wav2Vec2ForPreTraining`` with masks and negatives of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from learning.race import Contest, Racer
from step_bench import audio
from step_bench.audio import GROUPS, POSITION_GROUPS, TAPS
from step_bench.side import Ours, Peer

from modalities.audio.encoder import AudioEncoder
from modalities.audio.hf_names import wav2vec2, wav2vec2_pretraining
from modalities.audio.wav2vec2 import Wav2Vec2
from modalities.hf_names import to_ours
from modalities.objective import Step

SIZE = {"channels": 64, "width": 128, "depth": 3, "heads": 4, "batch": 16}
# Of conf/task/wav2vec_tiny.yaml and experiment=wav2vec2_tiny. With the paper's own numbers, meant for hours of speech a
# step, both sides give up their codes within a hundred steps, and the fewer are left the lower the loss.
CODES, LATENT, FINAL, NEGATIVES, SHARE, SPAN = 16, 64, 64, 20, 0.5, 5
TEMPERATURE, DIVERSITY = (1.0, 0.5, 0.999), 0.5


def clips(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of ``train`` and ``val``: other speakers. Silence is left out."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for line in (folder / "labels.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["label"] != "silence":
            parts[row["split"]].append(soundfile.read(folder / row["file"], dtype="float32")[0])
    return parts["train"], parts["val"]


def contest(data: Path, seed: int) -> Contest:
    train, held = clips(data / "speech_commands")
    batch = SIZE["batch"]
    torch.manual_seed(seed)
    np.random.seed(seed)  # theirs draw from numpy's global state
    model = audio.hf_wav2vec2(
        SIZE, num_codevectors_per_group=CODES, codevector_dim=LATENT, proj_codevector_dim=FINAL,
        num_negatives=NEGATIVES, mask_time_prob=SHARE, mask_time_length=SPAN, diversity_loss_weight=DIVERSITY,
    )  # fmt: skip
    encoder = AudioEncoder(
        SIZE["channels"], SIZE["width"], SIZE["depth"], SIZE["heads"], positions="convolutional", position_kernel=TAPS,
        position_groups=POSITION_GROUPS,
    )  # fmt: skip
    objective = Wav2Vec2(
        SIZE["channels"], SIZE["width"], GROUPS, CODES, LATENT, TEMPERATURE, FINAL, diversity_weight=DIVERSITY
    )
    both = wav2vec2_pretraining(wav2vec2(SIZE["depth"], 7, "layer", True), GROUPS, CODES, LATENT)
    for part, table in zip((encoder, objective), both, strict=True):
        part.load_state_dict({name: x.clone() for name, x in to_ours(table, model.state_dict()).items()})
    prepare, theirs = audio.Clips(mask_prob=SHARE, mask_length=SPAN, num_negatives=NEGATIVES), audio.HfCollate(model)

    def batches(number: int) -> list[np.ndarray]:
        epoch, place = divmod(number, len(train) // batch)
        chosen = np.random.default_rng((seed, epoch)).permutation(len(train))
        return [train[i] for i in chosen[place * batch : (place + 1) * batch]]

    def ours_of(given: list[np.ndarray], number: int) -> Any:
        seeds = np.random.default_rng(number).integers(2**63, size=len(given))
        items = [prepare(clip, np.random.default_rng(s), True) for s, clip in zip(seeds, given, strict=True)]  # type: ignore[arg-type]
        return prepare.collate(items)

    def forward(given: Any) -> torch.Tensor:
        model.set_gumbel_temperature(objective.quantizer.temperature(peer.number))
        return model(**given).loss / given["mask_time_indices"].sum()

    base = (batches, 1, torch.device("cpu"), torch.float32)
    nothing = (0.0, 0.0)
    ours = Ours(
        "ours", *base, encoders={"audio": encoder}, objective=objective, collate=ours_of, work=lambda _: nothing
    )
    peer = Peer("hf wav2vec2", *base, model=model, collate=theirs, forward=forward, work=lambda *_: nothing)
    groups = [held[i : i + batch] for i in range(0, len(held) // batch * batch, batch)]
    kept = [theirs(group) for group in groups]
    mine = [audio.translated(prepare, group, given) for group, given in zip(groups, kept, strict=True)]

    # How many codes a batch uses, beside the loss: where few are in use, the right one is easily guessed.
    our_codes: list[float] = []
    their_codes: list[float] = []

    def our_loss() -> float:
        ours.parts.eval()
        found = objective.measure({"audio": encoder}, mine, Step())
        codes = [objective.measure({"audio": encoder}, [one], Step())["code_perplexity"]["value"] for one in mine]
        our_codes.append(round(sum(codes) / len(codes), 2))
        ours.parts.train()
        return found["contrastive_loss"]["value"]

    def their_loss() -> float:
        model.eval()
        with torch.no_grad():
            found = [model(**given) for given in kept]
        their_codes.append(round(sum(float(one.codevector_perplexity) for one in found) / len(found), 2))
        model.train()
        total = sum(float(one.contrastive_loss) for one in found)
        return total / sum(int(given["mask_time_indices"].sum()) for given in kept)

    size = f"{SIZE['channels']} channels, width {SIZE['width']}, {SIZE['depth']} blocks, {batch} clips"
    data_words = f"{len(train):,} spoken words; held out: {len(groups) * batch} of other speakers, contrastive loss"
    racers = Racer(ours, our_loss), Racer(peer, their_loss)
    for racer, codes in zip(racers, (our_codes, their_codes), strict=True):
        racer.curve["codes"] = codes
    return Contest("wav2vec 2.0, speech commands", data_words, "`Wav2Vec2ForPreTraining`", size, *racers, batch, 1e-3)
