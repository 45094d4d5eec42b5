"""What `pretrain plan` of a deep model costs: the whole command, in a process of its own.

python scripts/bench_plan.py                     # a billion parameters, GPT-2 like, of the demo's texts
python scripts/bench_plan.py experiment=grounded_tiny

Prints seconds on the clock and of the processor, and the most memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

BILLION = ["experiment=clm_tiny", "encoders.text.width=1536", "encoders.text.depth=36", "encoders.text.heads=16"]


def main() -> None:
    """Plans once, and prints a row."""
    given = sys.argv[1:] or BILLION
    began = time.perf_counter()
    command = [sys.executable, "-m", "pretrain", "plan", *given, "--tflops", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr[-2000:] or done.stdout[-2000:])
    parameters = sum(json.loads(done.stdout)["parameters"].values())
    processor = used.ru_utime + used.ru_stime
    print(
        f"{parameters / 1e6:,.0f} M parameters: {seconds:.1f} s, {processor:.1f} s of the processor, "
        f"{used.ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
