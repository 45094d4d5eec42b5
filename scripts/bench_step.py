"""Our training steps beside Hugging Face, open_clip and torchaudio: same sizes, same samples, rounds that take turns.

  uv run --group bench python scripts/bench_step.py [--cases text,causal,pairs,audio] [--out rows.jsonl]

Losses for the same weights and batch are compared first: figures of unlike losses would mean nothing.
See BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pretrain.host import tune  # noqa: E402

tune()  # before torch: allocator and threads, for all sides alike

import torch  # noqa: E402
from step_bench import audio, causal, pairs, text, trace, trunks, verdict  # noqa: E402
from step_bench.case import Setup  # noqa: E402
from step_bench.measure import interleaved, machine  # noqa: E402

CASES = {"text": text, "causal": causal, "pairs": pairs, "audio": audio}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", default=",".join(CASES), help="of %(default)s, which is the default; each runs in its own process"
    )
    parser.add_argument("--sides", help="only these, by comma; default: all of a case")
    parser.add_argument("--size", choices=list(text.SIZES), help="default: small, on CUDA base")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="updates a round")
    parser.add_argument("--batch", type=int, help="texts, pairs or clips of a step; default: of the size")
    parser.add_argument("--threads", type=int, help="of torch; default: its own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16; the default on CUDA")
    parser.add_argument("--compile", action="store_true", help="compile both sides; the default on CUDA")
    parser.add_argument("--trace", type=Path, help="folder for a profile of our steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="append each measurement as a JSON line")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    names = args.cases.split(",")
    if unknown := set(names) - set(CASES):
        sys.exit(f"--cases: no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if len(names) > 1:  # each in a process of its own: none inherits the memory that another has left in pieces
        codes = {
            name: subprocess.run([sys.executable, *sys.argv, "--cases", name], check=False).returncode for name in names
        }
        failed = [f"{name} (exit code {code})" for name, code in codes.items() if code]
        sys.exit(f"not measured: {', '.join(failed)}" if failed else 0)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    on_device = device.type == "cuda"
    dtype = torch.bfloat16 if args.bf16 or on_device else torch.float32
    size = args.size or ("base" if on_device else "small")
    setup = Setup(size, args.steps, device, dtype, args.compile or on_device, args.seed)
    for module in CASES.values() if args.batch else ():
        module.SIZES[size]["batch"] = args.batch
    rows, failed = [], False
    case = CASES[args.cases].case(setup)
    for check in case.checks():
        rows.append(verdict.checked(case, check))
        failed |= not check.same
        print(verdict.of_check(rows[-1]), flush=True)
    if failed:
        sys.exit("the losses differ: nothing was timed")
    wanted = args.sides.split(",") if args.sides else list(case.sides)
    sides = {side: made for side, made in case.sides.items() if side in wanted}
    for side in sides.values():
        side.round()  # warm-up
    found, peak = interleaved({side: made.round for side, made in sides.items()}, args.rounds, device, dtype)
    rows += verdict.measured(case, found, peak, machine(device), size, str(dtype).removeprefix("torch."))
    print(verdict.table(case, rows), flush=True)
    if args.trace:
        rows += trace.profiled(case, sides, args.trace)
        print(trace.table(case, rows), flush=True)
    rows += trunks.measured(case, sides, args.rounds, setup)
    print("\n".join([*verdict.lines(case, found), *trunks.lines(case, rows)]), flush=True)
    if args.out:
        with args.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
