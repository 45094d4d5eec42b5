"""The same contest from several seeds, both sides for as many samples: is a difference there more than chance?"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

from learning.race import Contest, Racer, check

EVERY = 20  # steps from one measurement to the next


def run(contest_of: Callable[[int], Contest], seeds: int, steps: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Held-out losses, means of the measurements in the last fifth of ``steps``, for seeds 0 to ``seeds`` - 1.

    Returns:
        ``rows`` by seed, the mean of ours - theirs as ``difference`` and its standard error.
    """
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        contest = contest_of(seed)
        row: dict[str, Any] = {"seed": seed}
        check(contest)
        for side, racer in (("ours", contest.ours), ("theirs", contest.theirs)):
            _learn(racer, contest, steps)
            last = max(1, len(racer.curve["loss"]) // 5)
            row[side] = round(mean(racer.curve["loss"][-last:]), 4)
            if "codes" in racer.curve:
                row[f"{side}_codes"] = round(mean(racer.curve["codes"][-last:]), 2)
        rows.append(row)
        say(f"{contest.name} " + " ".join(f"{name}={value:g}" for name, value in row.items()))
    differences = [row["ours"] - row["theirs"] for row in rows]
    return {
        "name": contest.name,
        "samples": steps * contest.batch,
        "rows": rows,
        "difference": round(mean(differences), 4),
        "standard_error": round(stdev(differences) / math.sqrt(seeds), 4),
    }


def _learn(racer: Racer, contest: Contest, steps: int) -> None:
    for values in racer.curve.values():  # check() measured
        values.clear()
    for step in range(steps):
        racer.learn(contest.rate * min(1.0, (step + 1) / contest.warmup))
        if (step + 1) % EVERY == 0:
            racer.measure(contest.batch)


def table(found: dict[str, Any]) -> str:
    """Markdown: a line a seed."""
    codes = "ours_codes" in found["rows"][0]
    lines = [
        "| seed | ours | peer |" + (" codes in use, ours | peer |" if codes else ""),
        "|---|---|---|" + ("---|---|" if codes else ""),
    ]
    for row in found["rows"]:
        cells = [f"{row['ours']:.3f}", f"{row['theirs']:.3f}"]
        cells += [f"{row['ours_codes']:.1f}", f"{row['theirs_codes']:.1f}"] if codes else []
        lines.append(f"| {row['seed']} | {' | '.join(cells)} |")
    said = f"{found['difference']:+.3f}, standard error {found['standard_error']:.3f}"
    return "\n".join([*lines, "", f"Mean of ours - peer at {found['samples']:,} samples: {said}."])
