"""Runs of sixty steps with everything switched on that a continuation could get wrong, one for each modality."""

from __future__ import annotations

import sys
from pathlib import Path

from data.demo import build

STEPS = 60
PATIENCE = ["interruption.silence_s=5", "loader.warn_after_s=10", "loader.deadline_s=20", "trainer.timeout_s=30"]
"""With ranks that are killed before they have met, and no launcher that ends those that wait for them."""
_TINY = ("width=16", "depth=1", "heads=2", "dropout=0.1")
_COMMON = [
    *("data.vocab_size=320", f"max_steps={STEPS}", "checkpoint.every_n_steps=7", "checkpoint.keep_last=2"),
    *("evaluate.every_n_steps=15", "evaluate.samples=8", "evaluate.batch_size=4", "ema.decay=0.9", "evaluate.ema=true"),
    *("trainer.threads=1", "loader.workers=2", "schedule.warmup_steps=2", "ledger=true", "trainer.accelerator=cpu"),
]


def _encoder(name: str) -> list[str]:
    return [f"encoders.{name}.{key}" for key in _TINY] + (["encoders.audio.channels=8"] if name == "audio" else [])


_TASKS = {
    "mlm": ["tasks.mlm.batch_size=4", "tasks.mlm.prepare.max_tokens=24"],
    "clm": ["tasks.clm.batch_size=4", "tasks.clm.prepare.max_tokens=24"],
    "clip": ["tasks.clip.batch_size=4", "tasks.clip.prepare.b.max_tokens=24"],
    "clap": ["tasks.clap.batch_size=4", "tasks.clap.prepare.b.max_tokens=24"],
    "wav2vec": [
        *("tasks.wav2vec.batch_size=4", "tasks.wav2vec.prepare.num_negatives=5"),
        *(f"tasks.wav2vec.objective.{key}" for key in ("latent_vars=8", "latent_dim=8", "final_dim=8")),
    ],
}
_MADE_OF = {
    "mlm_tiny": (["text"], ["mlm"]),
    "clm_tiny": (["text"], ["clm"]),
    "clip_tiny": (["text", "image"], ["clip"]),
    "wav2vec2_tiny": (["audio"], ["wav2vec"]),
    "grounded_tiny": (["text", "image", "audio"], ["mlm", "clip", "clap", "wav2vec"]),
}
NAMES = tuple(_MADE_OF)


def recipe(name: str) -> list[str]:
    """Arguments of the run, but for ``run_dir``."""
    encoders, tasks = _MADE_OF[name]
    parts = [*map(_encoder, encoders), *(_TASKS[task] for task in tasks)]
    return [f"experiment={name}", *_COMMON, *(argument for part in parts for argument in part)]


def small_cache(folder: Path) -> str:
    """A cache below ``folder`` with a demo data set so small that epochs end within a few steps."""
    root = folder / "demo-v1-python{}.{}".format(*sys.version_info)
    if not root.exists():
        root.mkdir(parents=True)
        build.build(root, scenes_train=10, scenes_val=8)
    return str(folder)
