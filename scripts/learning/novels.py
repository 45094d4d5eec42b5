"""Masked-LM on paragraphs of English novels, beside ``BertForMaskedLM`` with its standard collator."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning.race import Contest, Racer
from step_bench.documents import SHARE, Collate, flat
from step_bench.side import Ours, Peer
from step_bench.text import bert, our_bert

from modalities.objective import Step

SIZE = {"width": 256, "depth": 4, "heads": 4, "vocabulary": 8000, "batch": 16, "longest": 256}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TRAIN, HELD, SHORTEST = 24000, 160, 40  # paragraphs, paragraphs, characters


def paragraphs(folder: Path) -> tuple[list[str], list[str]]:
    """Of all novels but every tenth, and of those."""
    parts: tuple[list[str], list[str]] = ([], [])
    for number, path in enumerate(sorted(folder.glob("*.jsonl"))):
        for line in path.read_text().splitlines():
            found = json.loads(line)["text"].split("\n")
            parts[number % 10 == 9].extend(text for text in found if len(text) >= SHORTEST)
    for part in parts:
        random.Random(0).shuffle(part)
    return parts[0][:TRAIN], parts[1][:HELD]


def tokenizer_of(texts: list[str]) -> Any:
    """Word pieces of the texts that are learned from."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE["vocabulary"], special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def contest(data: Path, seed: int) -> Contest:
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    train, held = paragraphs(data / "text" / "novels")
    tokenizer = tokenizer_of(train[:8000])
    tokenizer.enable_truncation(SIZE["longest"])
    learned, kept = ([np.array(e.ids) for e in tokenizer.encode_batch(texts)] for texts in (train, held))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(str(Path(folder) / "tokenizer.json"))
        collate = Collate(str(Path(folder) / "tokenizer.json"), SIZE["longest"])
    names = {f"{name.lower()[1:-1]}_token": name for name in SPECIAL}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    theirs = DataCollatorForLanguageModeling(fast, mlm=True, mlm_probability=SHARE)
    batch = SIZE["batch"]

    def batches(number: int) -> list[np.ndarray]:
        epoch, place = divmod(number, len(learned) // batch)
        order = np.random.default_rng((seed, epoch)).permutation(len(learned))
        return [learned[i] for i in order[place * batch : (place + 1) * batch]]

    def padded(samples: list[np.ndarray]) -> dict[str, Any]:
        return dict(theirs([{"input_ids": ids.tolist()} for ids in samples]))

    torch.manual_seed(seed)
    masked = [padded(kept[i : i + batch]) for i in range(0, len(kept), batch)]
    model = bert(SIZE)
    encoder, objective = our_bert(SIZE, model)
    base = (batches, 1, torch.device("cpu"), torch.float32)
    nothing = (0.0, 0.0)
    ours = Ours("ours", *base, encoders={"text": encoder}, objective=objective, collate=collate, work=lambda _: nothing)
    peer = Peer(
        "hf bert", *base, model=model, collate=padded, forward=lambda b: model(**b).loss, work=lambda *_: nothing
    )

    def our_loss() -> float:
        ours.parts.eval()
        found = objective.measure({"text": encoder}, [flat(given) for given in masked], Step())
        ours.parts.train()
        return found["loss"]["value"]

    def their_loss() -> float:
        model.eval()
        with torch.no_grad():
            counts = [int((given["labels"] != -100).sum()) for given in masked]
            losses = [float(model(**given).loss) for given in masked]
        model.train()
        return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)

    size = f"width {SIZE['width']}, {SIZE['depth']} blocks, {SIZE['vocabulary']:,} word pieces, {batch} paragraphs"
    data_words = f"{len(learned):,} paragraphs; held out: {len(kept)} of other novels"
    peer_words = "`BertForMaskedLM`, `DataCollatorForLanguageModeling`"
    return Contest(
        "masked-LM, novels", data_words, peer_words, size, Racer(ours, our_loss), Racer(peer, their_loss), batch, 1e-3
    )
