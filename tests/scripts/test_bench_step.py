import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modalities.layout import Layout
from modalities.transformer import Transformer
from tests.marks import slow

ROOT = Path(__file__).parents[2]
SIDES = {
    "masked-LM": {"ours bert", "ours modernbert", "hf bert", "hf modernbert", "hf modernbert sparse"}
    | {"hf modernbert sparse, blocks"},
    "causal-LM": {"ours gpt2", "hf gpt2", "hf gpt2, blocks"},
    "pairs": {"ours", "open_clip", "hf clip"},
    "wav2vec": {"ours", "hf wav2vec2", "torchaudio hubert"},
}


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "scripts"))
    from step_bench import flops, trunks

    sys.path.remove(str(ROOT / "scripts"))
    return SimpleNamespace(flops=flops, trunks=trunks)


@pytest.mark.parametrize(("window", "causal"), [(0, False), (0, True), (3, False), (3, True), (50, False)])
def test_counts_the_pairs_that_attention_sees(bench, window, causal):
    lengths = [1, 2, 5, 17]
    expected = sum(
        (not window or abs(i - j) <= window) and (not causal or j <= i)
        for n in lengths
        for i in range(n)
        for j in range(n)
    )
    assert bench.flops.seen(lengths, window, causal) == expected


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_counts_what_a_trunk_multiplies(bench, activation):
    trunk, layout = Transformer(32, 3, 4, activation=activation), Layout([10] * 3)
    # In training a product sums onto what is there, which the counter does not know.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trunk(torch.zeros(30, 32), layout)
    # Of three blocks: the counter does not know the kernel on CPU.
    attention = 3 * 4.0 * 32 * bench.flops.seen(layout.lengths)
    assert bench.trunks.useful(trunk, layout) == 3 * (counter.get_total_flops() + attention)


@pytest.mark.parametrize(
    ("case", "peer"),
    [
        slow("text", "transformers"),
        slow("causal", "transformers"),
        ("pairs", "open_clip"),
        slow("audio", "transformers"),
    ],
)
def test_losses_are_the_same_and_every_side_is_measured(tmp_path, case, peer):
    pytest.importorskip(peer)
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "scripts/bench_step.py"), "--size", "tiny", "--cases", case, "--rounds", "1"]
    run = subprocess.run([*command, "--steps", "1", "--out", str(out)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    checks, steps, trunks = ([row for row in rows if row["what"] == what] for what in ("check", "step", "trunks"))
    assert checks
    assert all(row["loss"] == pytest.approx(row["their_loss"], rel=1e-4) for row in checks)
    assert {row["side"] for row in steps} == SIDES[steps[0]["case"]]
    assert all(row["per_cpu_s"]["median"] > 0 and 0 < row["share_cpu"]["median"] < 1 for row in steps)
    assert {row["side"] for row in trunks} == {side for side in SIDES[steps[0]["case"]] if side.startswith("ours")}
    assert all(row["useful_gflop"] > 0 < row["share_cpu"]["median"] for row in trunks)
