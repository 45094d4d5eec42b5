"""A run directory as a run writes it, made in a moment."""

import json
import math
from pathlib import Path

import numpy as np
import yaml

from modalities.audio.view import view as heard
from modalities.view import SIDE
from pretrain.evaluation import shown
from pretrain.evaluation.exhibit import exhibit

CONFIG = {
    "name": "grounded <tiny>",
    "max_steps": 400,
    "tasks": {
        "wav2vec": {
            "objective": {"_target_": "modalities.audio.wav2vec2.Wav2Vec2"},
            "encoders": {"audio": "audio"},
            "batch_size": 16,
            "weight": 1.0,
        },
        "mlm": {
            "objective": {"_target_": "modalities.text.masked_lm.MaskedLM"},
            "encoders": {"text": "text"},
            "batch_size": 8,
            "weight": 1.0,
        },
    },
    "alarms": {"collapse": {"task": "wav2vec", "reference": "wav2vec2_tiny"}},
    "data": {"text": {"train": "https://me:canary1@host/a.tar?X-Amz-Signature=canary2"}, "tokenizer": "tokenizer.json"},
    "logger": {"own": {"api_key": "canary3", "max_tokens": 77}},
}
PACKAGES = {
    "packages": {"torch": "2.13.0"},
    "version": "0.1.0",
    "code": "abc",
    "host": "node7",
    "device": "cpu",
    "python": "3.11",
}


SOURCE = {
    "name": "mlm.prose",
    "fingerprint": "f",
    "pattern": "https://me:canary5@host/a.tar",
    "shards": 3,
    "samples": 4000,
    "bytes": 3_000_000,
    "measured": 48,
    "characters": 1_200_000,
    "tokens": 330_000,
    "seconds": 7200,
    "languages": {"de": 30, "fr": 10},
    "licences": {"CC BY 4.0": 40},
}


def start(step, *overrides):
    return {"time": "2026-11-21T12:00:00+00:00", "step": step, "overrides": list(overrides), **PACKAGES}


def row(step):
    row = {
        "loss": 10 / step + 1,
        "wav2vec/contrastive_accuracy": 0.4 - 0.3 * math.exp(-step / 100),
        "wav2vec/code_perplexity": 2 + 20 * (1 - math.exp(-step / 50)),
        "wav2vec/loss": 3 - step / 400,
        "mlm/loss": 8 * math.exp(-step / 90) + math.sin(step) / 4 + 1,
        "lr": 1e-3 * min(1, step / 50),
        "gradient_norm": 1 + 50 / step,
        "mlm/prose/samples": 8 * step,
        "mlm/prose/epoch": step / 100,
    }
    if step % 100 == 0:
        row |= {"heldout/mlm/prose/loss": 8 * math.exp(-step / 90) + 1, "heldout/image_audio/recall@1": step / 1000}
    return row


def make(path: Path, steps=400, long=False, plain=False):
    """Rows of ``steps`` steps; ``long`` ones have many further metrics, ``plain`` ones show no samples."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    more = {f"extra{n}": 0.123456789 for n in range(40)} if long else {}
    lines(path / "metrics.jsonl", ({"step": s, **row(s), **more} for s in range(1, steps + 1)))
    speed = ({"step": s, "seconds": 0.1, "data_wait": 0.01, "samples": 24} for s in range(1, steps + 1))
    lines(path / "speed.jsonl", speed)
    lines(path / "starts.jsonl", [start(0, "seed=1"), start(150, "seed=1", "s3.secret_key=canary4")])
    alarm = {
        "step": 200,
        "event": "left_band",
        "task": "wav2vec",
        "metric": "code_perplexity",
        "value": 3.0,
        "low": 7.1,
        "high": None,
    }
    lines(path / "events.jsonl", [alarm])
    bad = {
        "step": 20,
        "split": "train",
        "task": "mlm",
        "shard": "a.tar",
        "key": "<k>",
        "kind": "not_utf8",
        "reason": "no",
    }
    lines(path / "quarantine-00000.jsonl", [bad, {**bad, "step": 30}])
    scores = {"mlm/prose/loss": {"value": 1.1, "chance": 5.0}, "image_audio/recall@1": {"value": 0.4, "chance": 0.004}}
    (path / "results.json").write_text(json.dumps({"step": steps, "metrics": scores}))
    (path / "card.json").write_text(json.dumps({"sources": [SOURCE]}))
    if not plain:
        shown.write(path, steps, "text-image-audio", gallery())
    return path


def gallery(count=40, labels=False, size=1.0):
    """Samples of three sides; pictures and sounds are noise, which nothing compresses."""
    rng = np.random.default_rng(0)
    views = [
        {
            "text": {"text": f"caption <{n}>"},
            "image": {"picture": rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)},
            "audio": heard(rng.standard_normal(round(16_000 * size)).astype(np.float32), 16_000),
        }
        for n in range(count)
    ]
    sides = {"text": "text", "image": "image", "audio": "audio"}
    maps = [{"side": s, "share": 0.5, "points": rng.integers(0, 1001, (count, 2)).tolist()} for s in sides]
    rows = [[n, n, (n + 1) % count, (n + 2) % count] for n in range(4)]
    pairs = [("text", "image"), ("image", "audio"), ("audio", "text")]
    retrievals = [{"from": one, "to": other, "rows": rows} for one, other in pairs]
    return exhibit(sides, views, [f"class {n % 7}" if labels else "" for n in range(count)], maps, retrievals)


def lines(path, rows):
    with open(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
