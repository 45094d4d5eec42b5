"""Held-out loss beside a peer that learns from the same samples in the same order, with the same CPU time.

  uv run --group bench python scripts/learning_curves.py --data DIR [--cases text,pairs,audio] [--seconds 150]
  uv run --group bench python scripts/learning_curves.py --data DIR --cases audio --seeds 8 --steps 500

The first writes CASE.json and CASE.svg into docs/curves and, with --document docs/learning.md, the table there; the
second gives both sides the same number of samples, from several seeds, and writes CASE_seeds.json. Both sides begin
with the same weights; their held-out losses (same samples and masks) are compared first. See docs/learning.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pretrain.host import tune  # noqa: E402

tune()  # before torch: allocator and threads, for both sides alike

import torch  # noqa: E402
from learning import commands, draw, novels, pictures, race, repeat  # noqa: E402
from step_bench.measure import machine  # noqa: E402

CASES = {"text": novels, "pairs": pictures, "audio": commands}
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with text/novels, stamps, clothing, ...")
    parser.add_argument("--cases", default="text,pairs,audio")
    parser.add_argument("--seconds", type=float, default=150.0, help="CPU seconds of learning, each side")
    parser.add_argument("--threads", type=int, help="of torch; default: its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1, each side --steps steps; at least 2")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "curves")
    parser.add_argument("--document", type=Path, help="whose table is written anew, such as docs/learning.md")
    args = parser.parse_args()
    if args.seeds is not None and (args.seeds < 2 or args.steps < repeat.EVERY):
        parser.error(f"--seeds {args.seeds} --steps {args.steps}: at least 2 seeds of {repeat.EVERY} steps")
    return args


def main() -> None:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.seeds:
        several(args)
        return
    for name in args.cases.split(","):
        contest = CASES[name].contest(args.data, args.seed)
        race.run(contest, args.seconds, lambda line: print(line, flush=True))
        found = race.result(contest) | {"seed": args.seed, "machine": machine(torch.device("cpu"))}
        (args.out / f"{name}.json").write_text(json.dumps(found) + "\n")
        (args.out / f"{name}.svg").write_text(draw.svg(found))
    rows = [json.loads(path.read_text()) for name in CASES if (path := args.out / f"{name}.json").exists()]
    print(table(rows))
    if args.document:
        text = args.document.read_text()
        before, rest = text.split(BEGIN)
        args.document.write_text(before + BEGIN + table(rows) + "\n" + END + rest.split(END)[1])


def several(args: argparse.Namespace) -> None:
    """Each case from several seeds."""
    for name in args.cases.split(","):
        found = repeat.run(partial(CASES[name].contest, args.data), args.seeds, args.steps, print)
        (args.out / f"{name}_seeds.json").write_text(json.dumps(found) + "\n")
        print(repeat.table(found))


def table(rows: list[dict]) -> str:
    """Markdown: the losses where the peer stops."""
    lines = [
        "| case | samples | ours | peer | CPU s | ours | peer | samples seen by then, ours : peer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        samples, spent = row["equal_samples"], row["equal_cpu_s"]
        times = row["ours"]["samples"][-1] / row["theirs"]["samples"][-1]
        lines.append(
            f"| {row['name']} | {samples['at']:,.0f} | {samples['ours']:.3f} | {samples['theirs']:.3f} "
            f"| {spent['at']:,.0f} | {spent['ours']:.3f} | {spent['theirs']:.3f} | {times:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
