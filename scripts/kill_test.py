"""Kills or signals a run at random instants, again and again, and compares what it comes to with the run left alone.

python scripts/kill_test.py --kills 200
python scripts/kill_test.py --kills 20 --experiment clip_tiny
python scripts/kill_test.py --kills 20 --ranks 2 --strategy fsdp
python scripts/kill_test.py --signals 100
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.campaign import Tally, codes_of, killed_until_done, phases_marked, signalled_until_done
from tests.faults.recipes import NAMES, PATIENCE, recipe, small_cache
from tests.integration.ranks import start_together
from tests.integration.runs import outcome


def main() -> int:
    """Prints the figures; 0 if every run equals its twin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--signals", type=int, default=0)
    parser.add_argument("--experiment", default="mlm_tiny", choices=NAMES)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("override", nargs="*", help="KEY=VALUE of the run")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="kill-test-"))
    os.environ["PRETRAIN_CACHE"] = small_cache(scratch / "cache")
    os.environ["PRETRAIN_TEST_STDERR"] = str(scratch / "stderr")
    arguments = [*recipe(given.experiment), f"trainer.strategy={given.strategy}", *given.override]
    arguments += PATIENCE
    began = time.monotonic()
    straight = start_together(given.ranks, [*arguments, f"run_dir={scratch / 'straight'}"])
    if any(codes_of(straight)):
        print(f"the run does not even run by itself: {scratch}", file=sys.stderr)
        return 1
    length, twin = 0.7 * (time.monotonic() - began), outcome(scratch / "straight")
    rng, tally, number = random.Random(given.seed), Tally(), 0
    began = time.monotonic()
    with phases_marked():
        while tally.hits < given.kills:
            number += 1
            run_dir = scratch / f"run-{number}"
            killed_until_done(arguments, run_dir, twin, rng, tally, length, (given.ranks,))
        while tally.hits < given.signals:
            number += 1
            signalled_until_done(arguments, scratch / f"run-{number}", twin, rng, tally, length)
    seconds = time.monotonic() - began
    kind = "kills" if given.kills else "signals"
    print(f"{given.experiment}, {given.ranks} processes, {given.strategy}: {tally.hits} {kind} in {seconds:.0f} s")
    print("  while at " + ", ".join(f"{name} {count}" for name, count in sorted(tally.phases.items())))
    if tally.codes:
        print(
            f"  exit codes {dict(tally.codes)}; signal to end: median {statistics.median(tally.seconds):.2f} s, "
            f"most {max(tally.seconds):.2f} s"
        )
    print(f"  {tally.whole} of {tally.whole + len(tally.wrong)} runs end equal to the run left alone")
    if tally.wrong:
        print(f"  what the runs said is in {scratch / 'stderr'}")
    for line in tally.wrong:
        print(f"  WRONG {line}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
