"""Rows, tables, and PASS or FAIL for what must hold."""

from __future__ import annotations

import statistics
from typing import Any

from step_bench.case import Case, Check, Ratio
from step_bench.measure import Row, spread

SHARE = 0.6


def checked(case: Case, check: Check) -> dict[str, Any]:
    """The row of a check."""
    named = {"ours": check.ours, "theirs": check.theirs, "loss": check.mine, "their_loss": check.expected}
    return {"what": "check", "case": case.name, **named, "same": check.same}


def of_check(row: dict[str, Any]) -> str:
    word = "PASS" if row["same"] else "FAIL"
    losses = f"{row['loss']:.6f} and {row['their_loss']:.6f}"
    return f"{word}  {row['case']:<10} loss of {row['ours']} = {row['theirs']}: {losses}"


def measured(
    case: Case, found: dict[str, list[Row]], peak: dict[str, float], machine: dict[str, Any], size: str, dtype: str
) -> list[dict[str, Any]]:
    """A row a side."""
    rows = []
    for name, rounds in found.items():
        spent = {part: sum((row.parts or {}).get(part, 0.0) for row in rounds) for part in rounds[0].parts or {}}
        whole = sum(spent.values()) or 1.0
        side = case.sides[name]
        rows.append(
            {
                "what": "step",
                "case": case.name,
                "side": name,
                "size": size,
                "dtype": dtype,
                "unit": case.unit,
                "per_s": spread(row.units / row.wall for row in rounds),
                "per_cpu_s": spread(row.units / row.cpu for row in rounds),
                "useful_gflop_per_unit": sum(row.useful for row in rounds) / sum(row.units for row in rounds) / 1e9,
                "share_wall": spread(row.useful / 1e9 / row.wall / peak["wall"] for row in rounds),
                "share_cpu": spread(row.share for row in rounds),
                "matmul_gflop_per_s": peak,
                "time": {part: round(seconds / whole, 3) for part, seconds in spent.items()},
                "losses": [round(float(loss), 4) for loss in (side.losses[0], side.losses[-1])],
                "machine": machine,
            }
        )
    return rows


def table(case: Case, rows: list[dict[str, Any]]) -> str:
    """Markdown: medians of a case."""
    own = [row for row in rows if row["what"] == "step" and row["case"] == case.name]
    peak = own[0]["matmul_gflop_per_s"]
    lines = [
        f"\n{case.name}, {own[0]['size']}, {own[0]['dtype']}; matrix product {peak['wall']:.0f} GFLOP a second, "
        f"{peak['cpu']:.0f} a CPU second; load {own[0]['machine']['load']}",
        f"| side | {case.unit}/s | {case.unit}/CPU-s (least to most) | useful MFLOP/unit | share of the product, "
        "wall | CPU | where the time goes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in own:
        each = row["per_cpu_s"]
        time = ", ".join(f"{part} {share:.0%}" for part, share in row["time"].items())
        lines.append(
            f"| {row['side']} | {row['per_s']['median']:,} | {each['median']:,} ({each['min']:,} to {each['max']:,}) "
            f"| {row['useful_gflop_per_unit'] * 1e3:,.1f} | {row['share_wall']['median']:.0%} "
            f"| {row['share_cpu']['median']:.0%} | {time} |"
        )
    return "\n".join(lines)


def lines(case: Case, found: dict[str, list[Row]]) -> list[str]:
    """PASS or FAIL for each ratio whose sides were measured, and for the shares."""
    out = []
    for ratio in case.ratios:
        peers = [name for name in ratio.peers if name in found]
        if ratio.ours in found and peers:
            value, fastest = ratio_of(ratio, found, peers)
            word = "PASS" if value >= ratio.bar else "FAIL"
            out.append(f"{word}  {case.name:<10} {ratio.ours} / {fastest}, a CPU second  {value:.2f} >= {ratio.bar}")
    for name in case.shares:
        if name in found:
            value = statistics.median(row.share for row in found[name])
            word = "PASS" if value >= SHARE else "FAIL"
            out.append(f"{word}  {case.name:<10} {name}: share of the matrix product's rate  {value:.3f} >= {SHARE}")
    return out


def ratio_of(ratio: Ratio, found: dict[str, list[Row]], peers: list[str]) -> tuple[float, str]:
    """The median over the rounds of the ratio to the peer that is fastest in the median."""

    def rates(name: str) -> list[float]:
        return [row.units / row.cpu for row in found[name]]

    fastest = max(peers, key=lambda name: statistics.median(rates(name)))
    pairs = zip(rates(ratio.ours), rates(fastest), strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs), fastest
