"""Makes a reference curve with its healthy band from runs that went well.

python scripts/reference_curve.py modalities/audio/reference/wav2vec2_tiny.json runs/a runs/b
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

TASK, WINDOW, EVERY, FIRST = "wav2vec", 20, 20, 120
# The bound lies below the lowest healthy run by this share of what that one has above a model that learned nothing.
# Codes are alike on any sounds, so that a run that gives up half of them is told; accuracy depends on the sounds.
SLACK = {"code_perplexity": 0.25, "contrastive_accuracy": 0.5}


def means(run: Path, metric: str, steps: list[int]) -> list[float]:
    """The metric's mean over the ``WINDOW`` rows up to each of ``steps``."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = {row["step"]: row[f"{TASK}/{metric}"] for row in rows}
    return [float(np.mean([values[n] for n in range(step - WINDOW + 1, step + 1)])) for step in steps]


def curve(runs: list[Path], metric: str, steps: list[int], chance: float) -> dict[str, Any]:
    """Mean of the runs, and the band around them."""
    values = np.array([means(run, metric, steps) for run in runs])
    low = chance + (1 - SLACK[metric]) * (values.min(0) - chance)
    return {
        "chance": round(chance, 4),
        "steps": steps,
        "value": values.mean(0).round(4).tolist(),
        "low": low.round(4).tolist(),
        "high": [None] * len(steps),
    }


def main(target: str, *folders: str) -> None:
    """Writes ``target`` from the runs in ``folders``."""
    runs = [Path(folder) for folder in folders]
    config: Any = OmegaConf.load(runs[0] / "config.yaml")
    metrics = json.loads((runs[0] / "results.json").read_text())["metrics"]
    chance = {name.rsplit("/", 1)[1]: score["chance"] for name, score in metrics.items() if "chance" in score}
    steps = list(range(FIRST, config.max_steps + 1, EVERY))
    objective = config.tasks[TASK].objective
    made = {
        "experiment": config.name,
        "seeds": [OmegaConf.load(run / "config.yaml").seed for run in runs],  # type: ignore[union-attr]
        "codes": objective.latent_groups * objective.latent_vars,
        "window": WINDOW,
        "metrics": {name: curve(runs, name, steps, chance[name]) for name in SLACK},
    }
    Path(target).write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
