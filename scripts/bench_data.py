"""Our loader beside webdataset, mosaicml-streaming, litdata and Hugging Face datasets, on the same data in one run.

  uv run --group bench python scripts/bench_data.py --data DIR [--out rows.jsonl]

The data (about 2.5 GB) is made in DIR at the first run. Peers that are not installed are left out. Each loader lives in
a process of its own; only one of them works at a time, and they take turns in each round. See BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from data_bench import kinds, verdict  # noqa: E402
from data_bench.peers import PEERS, installed  # noqa: E402

FORMS = {"raw": ["block", "views", "lists"], "decoded": ["decoded"]}
WINDOWS = (1, 16, kinds.SHARDS)  # shards that are shuffled together
BOUNDS = ("sequential", "indexed", "copies")
# CPU is compared with that of decoding alone to some percent: so often a round, where decoding alone costs the same
# just before and just after; tried at most so often, as a machine may be disturbed all the time.
_PAIRS, _TRIES, _CALM = 3, 6, 0.04
# Decoding takes nearly all of the time with any loader: those that differ by a percent are compared more often.
_AGAIN = {"raw": 1, "decoded": 3}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the data lies, or is made")
    parser.add_argument("--out", type=Path, help="append each measurement as a JSON line")
    parser.add_argument("--kinds", default="image,text,audio")
    parser.add_argument("--cases", default="raw,decoded,resume,memory")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--peers", default=",".join(installed()), help="default: those installed; none: ours alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="of steady work; 2.5 times as long when decoding")
    parser.add_argument("--quick", action="store_true", help="small data, one round: does it run, not how fast")
    return parser.parse_args()


class Server:
    """A loader's process; see data_bench/serve.py."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        size = "quick" if args.quick else "full"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "data_bench.serve", name, str(args.data), size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def __call__(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": f"the process ended: {self.process.wait()}"}

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """The measurements of one run, in the order in which they are taken."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.kinds = [kind for kind in args.kinds.split(",") if kind]
        self.workers = [int(n) for n in args.workers.split(",")]
        self.cases = args.cases.split(",")
        self.peers = [] if args.peers in ("none", "") else args.peers.split(",")
        self.loaders = ["ours", *self.peers]
        self.servers = {name: Server(name, args) for name in [*self.loaders, "bounds"]}
        self.rows: list[verdict.Row] = []

    def measure(self, loader: str, kind: str, what: str, form: str, workers: int = 0, **more: Any) -> None:
        self.keep(self.ask(loader, kind, what, form, workers, **more))

    def ask(self, loader: str, kind: str, what: str, form: str, workers: int, **more: Any) -> verdict.Row:
        request = {"what": what, "kind": kind, "form": form, "workers": workers, **more}
        answer = self.servers[loader](**request)
        return {**request, "loader": loader, **answer, "load": f"{os.getloadavg()[0]:.2f}"}

    def keep(self, row: verdict.Row) -> None:
        self.rows.append(row)
        if "error" in row:
            print("{loader} {kind} {form} w{workers}: {error}".format(**row), file=sys.stderr)
        if self.args.out:
            with open(self.args.out, "a") as file:
                file.write(json.dumps(row) + "\n")

    def make(self) -> None:
        """Each writer in a process of its own: litdata's changes how processes are started, for good."""
        for loader in self.loaders:
            writer = Server(loader, self.args)
            for kind in self.kinds:
                formats = ["tar", "tokenizer"] if loader == "ours" else [PEERS[loader].format]
                answer = writer(what="make", kind=kind, formats=formats)
                if "error" in answer:
                    sys.exit(f"{loader}: the {kind} data cannot be made: {answer['error']}")
            writer.close()

    def round(self, kind: str, number: int) -> None:
        seconds = self.args.seconds
        for form in BOUNDS:
            self.measure("bounds", kind, "rate", form, round=number)
        for case in (case for case in self.cases if case in FORMS):
            long = seconds * (2.5 if case == "decoded" else 1)
            for form in FORMS[case]:
                loaders = ["ours"] if form == "views" else self.loaders
                for workers in self.workers:
                    for again in range(_AGAIN[case]):
                        first = (number + again) % len(loaders)
                        for loader in loaders[first:] + loaders[:first]:
                            self.measure(loader, kind, "rate", form, workers, seconds=long, round=number, again=again)
                    for own in ("decoded", "own") if case == "decoded" else ():
                        self.beside_bare(kind, own, workers, long, number)
        if "resume" in self.cases:
            for workers in self.workers:
                self.measure("ours", kind, "resume", "block", workers, repeats=11, round=number)
                for peer in self.peers if number == 0 else []:
                    self.measure(peer, kind, "resume", "lists", workers, repeats=1, round=number)
        if "memory" in self.cases and kind == self.kinds[0]:
            for window in WINDOWS:
                self.measure("ours", kind, "rate", "block", 2, seconds=2 * seconds, window=window, round=number)

    def beside_bare(self, kind: str, form: str, workers: int, seconds: float, number: int) -> None:
        """Our loader between two measurements of its decoder alone; ``beside_bare`` its CPU as a multiple of that."""
        calm, bare = 0, self.bare(kind, form, workers, seconds, number, 0)
        for turn in range(1, _TRIES + 1):
            row = self.ask("ours", kind, "rate", form, workers, seconds=seconds, round=number, turn=turn)
            after = self.bare(kind, form, workers, seconds, number, turn)
            if "error" not in row and abs(after / bare - 1) < _CALM:
                row["beside_bare"] = row["cpu_us_per_sample"] / ((bare + after) / 2)
                calm += 1
            self.keep(row)
            bare = after
            if calm == _PAIRS:
                break

    def bare(self, kind: str, form: str, workers: int, seconds: float, number: int, turn: int) -> float:
        """CPU microseconds that decoding a sample costs without a loader."""
        row = self.ask("bounds", kind, "rate", form, workers, seconds=seconds / 2, round=number, turn=turn)
        self.keep(row)
        return float(row.get("cpu_us_per_sample", float("nan")))

    def run(self) -> None:
        self.make()
        for kind in self.kinds:
            for loader in self.loaders:
                self.measure(loader, kind, "mixing", "lists")
        for number in range(1 if self.args.quick else self.args.rounds):
            for kind in self.kinds:
                self.round(kind, number)

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


def main() -> int:
    args = arguments()
    begun = time.time()
    bench = Bench(args)
    try:
        bench.run()
    finally:
        bench.close()
    medians = verdict.Medians(bench.rows)
    loads = [float(row["load"]) for row in bench.rows]
    for part in (
        verdict.bounds_table(medians),
        verdict.table(medians, bench.loaders),
        verdict.starts_table(medians, bench.rows, bench.loaders),
        [str(line) for line in verdict.lines(medians, bench.peers)],
    ):
        print("\n" + "\n".join(part))
    print(f"\n{time.time() - begun:.0f} s; load average {min(loads):.1f} to {max(loads):.1f}; {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
