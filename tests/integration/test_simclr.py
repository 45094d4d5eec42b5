"""A new objective is one Python file and one YAML of the user's own; nothing of the framework is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.runs import run, steps

CODE = '''
"""SimCLR (Chen et al. 2020, section 2): two views of a picture find each other among all views of the batch."""

import torch
import torch.nn.functional as F
from torch import nn

from modalities.pairs import Pairs


class SimCLR(Pairs):
    """NT-Xent (eq. 1); side a and side b are two views, usually of the same encoder."""

    def __init__(self, width, embed_dim, temperature=0.5):
        super().__init__(embed_dim)
        self.temperature = temperature
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, embed_dim))

    def connect(self, encoders):
        """The head is thrown away after training, so it is the objective's own."""

    def embed_side(self, encoder, inputs):
        return F.normalize(self.head(encoder.pooled(inputs)).float(), dim=-1)

    def pairwise(self, a, b):
        views, n = torch.cat([a, b]), len(a)
        logits = views @ views.T / self.temperature
        logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=a.device), float("-inf"))
        partner = (torch.arange(2 * n, device=a.device) + n) % (2 * n)
        hits = (logits.argmax(1) == partner).sum().detach() / 2
        return F.cross_entropy(logits, partner, reduction="sum") / 2, hits
'''

VIEW = """
    _target_: modalities.image.prepare.ImagePrepare
    image_size: ${encoders.image.image_size}
    scale: [0.3, 1.0]
    flip: 0.5
"""

CONFIG = f"""# @package _global_
defaults:
  - /data: demo
  - /encoder@encoders.image: image_tiny
  - _self_
name: simclr
max_steps: 12
tasks:
  views:
    source: ${{data.image_text.train}}
    heldout: ${{data.image_text.heldout}}
    batch_size: 16
    micro_batch_size: ${{micro_batch_size}}
    weight: 1.0
    encoders: {{a: image, b: image}}
    prepare:
      _target_: modalities.prepare.Sides
      a: &view
{VIEW.replace(chr(10), chr(10) + "    ").rstrip()}
      b: *view
    objective:
      _target_: mysimclr.SimCLR
      width: ${{encoders.image.width}}
      embed_dim: 32
"""


@pytest.mark.parametrize("micro", ["null", "4"])
def test_simclr_is_one_file_and_one_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: str) -> None:
    (tmp_path / "mysimclr.py").write_text(CODE)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/simclr.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--config-dir", str(tmp_path), "experiment=simclr", "trusted_roots=[mysimclr]"]
    quick = ["trainer.threads=1", "loader.workers=0", "evaluate.samples=16", "optimizer.lr=3e-3"]
    quick += ["schedule.warmup_steps=2", f"micro_batch_size={micro}"]
    assert run([*own, *quick, f"run_dir={tmp_path / 'run'}"]) == 0
    assert steps(tmp_path / "run") == list(range(1, 13))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [row["views/loss"] for row in rows]
    assert sum(losses[-3:]) < sum(losses[:3])
    results = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    assert results["views/image_to_image_recall@1"]["chance"] < 0.2
