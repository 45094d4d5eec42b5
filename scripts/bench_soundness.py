"""What judging each step costs: ``python scripts/bench_soundness.py [--step-ms MS]``.

Times what a sound step adds (the verdict, reading it, the bounds of a full window, the callbacks' share) for one and
for four tasks, and prints it as a share of a step, by default that of ``experiment=mlm_tiny`` on two CPU cores.
"""

from __future__ import annotations

import argparse
import time

import torch

from pretrain.soundness.guard import Guard

STEPS = 3000


def microseconds(tasks: int, spikes: bool, leave_out: bool, device: str) -> float:
    """Of host time a step, over many steps with a full window."""
    names = [f"task{n}" for n in range(tasks)]
    guard = Guard(names, spikes=spikes, leave_out_spikes=leave_out)
    generator = torch.Generator().manual_seed(0)
    noise = (2 + 0.1 * torch.randn(STEPS + 200, generator=generator)).to(device).unbind()
    for step in range(1, 201):
        guard.judge(step, {name: {"loss": noise[step]} for name in names}, noise[step])
        guard.settle(everything=False)
        guard.readings()
    began = time.perf_counter()
    for step in range(201, STEPS + 200):
        sound = guard.judge(step, {name: {"loss": noise[step]} for name in names}, noise[step])
        if device == "cpu":
            bool(sound)
        guard.settle(everything=False)
        for reading in guard.readings():
            reading.nonfinite or reading.above  # noqa: B018 - what the callback looks at
    return (time.perf_counter() - began) / (STEPS - 1) * 1e6


def main() -> None:
    """Prints a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=91.0, help="a step to compare with, milliseconds")
    step_ms = parser.parse_args().step_ms
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for tasks in (1, 4):
        for words, spikes, leave_out in (
            ("numbers that are none", False, False),
            ("and spikes", True, False),
            ("and spikes left out", True, True),
        ):
            cost = microseconds(tasks, spikes, leave_out, device)
            share = cost / step_ms / 10
            print(f"{device} {tasks} task(s), {words:<22} {cost:7.1f} us a step, {share:.2f} % of {step_ms:g} ms")


if __name__ == "__main__":
    main()
