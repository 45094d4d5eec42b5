"""Rows of measurements -> medians, a table, and what must hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan
from statistics import median
from typing import Any

from data_bench.kinds import SHARDS

Row = dict[str, Any]
UNDECODED = ("block", "lists")
OURS_UNDECODED = ("block", "views")


class Medians:
    """Medians over the rounds, by (kind, form, workers, loader, measure)."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._values: dict[tuple[Any, ...], dict[tuple[int, ...], float]] = {}
        for row in rows:
            if row["what"] == "mixing":
                continue
            for name, value in row.items():
                if isinstance(value, float):
                    form = f"{row['form']}/{row['window']}" if row.get("window") else row["form"]
                    case = (row["kind"], form, row["workers"], row["loader"], name)
                    when = tuple(row.get(name, 0) for name in ("round", "again", "turn"))
                    self._values.setdefault(case, {})[when] = value

    def __call__(self, kind: str, form: str, workers: int, loader: str, name: str = "samples_per_s") -> float | None:
        values = self._values.get((kind, form, workers, loader, name))
        return median(values.values()) if values else None

    def count(self, kind: str, form: str, workers: int, loader: str, name: str) -> int:
        """Of how many measurements it is the median."""
        return len(self._values.get((kind, form, workers, loader, name), ()))

    def spread(self, kind: str, form: str, workers: int, loader: str, name: str = "samples_per_s") -> float:
        """(largest - smallest) / median over the rounds."""
        values = self._values.get((kind, form, workers, loader, name), {(0,): 1.0}).values()
        return (max(values) - min(values)) / median(values)

    def ratio(self, ours: tuple[Any, ...], theirs: tuple[Any, ...], name: str = "samples_per_s") -> float:
        """Median of the ratios of measurements that were taken one soon after the other; without such, of medians.

        The pace of a shared machine changes within minutes, for both alike.
        """
        mine, other = self._values[(*ours, name)], self._values[(*theirs, name)]
        pairs = [mine[turn] / other[turn] for turn in mine if turn in other]
        return median(pairs) if pairs else median(mine.values()) / median(other.values())

    def kinds(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(case[0] for case in self._values))

    def workers(self, kind: str) -> list[int]:
        """The numbers of workers that were tried with ``kind``."""
        return sorted({case[2] for case in self._values if case[0] == kind and case[3] == "ours"})

    def best(self, kind: str, forms: Iterable[str], workers: int, peers: Iterable[str]) -> tuple[str, float] | None:
        """The fastest of ``peers`` in any of ``forms``: ("litdata block", samples/s)."""
        found = [(f"{p} {f}", v) for p in peers for f in forms if (v := self(kind, f, workers, p)) is not None]
        return max(found, key=lambda pair: pair[1], default=None)


@dataclass
class Line:
    """One thing that must hold: ``ratio`` against ``limit``, at least or at most."""

    case: str
    claim: str
    ratio: float
    limit: float
    at_least: bool
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        word = "PASS" if self.holds else "FAIL"
        return f"{word}  {self.case:<9} {self.claim:<46} {self.ratio:7.2f} {sign} {self.limit:<5g} {self.note}"


def lines(medians: Medians, peers: list[str]) -> list[Line]:
    """What must hold, as far as it was measured."""
    found: list[Line] = []
    for kind in medians.kinds():
        for workers in medians.workers(kind):
            found += _rates(medians, peers, kind, workers) + _decoded(medians, peers, kind, workers)
            names = ("begin_s", "resume_s", "ratio")
            begin, back, ratio = (medians(kind, "block", workers, "ours", name) for name in names)
            if begin and back and ratio:
                note = f"{back * 1e3:.1f} ms, from the beginning {begin * 1e3:.1f} ms"
                found.append(Line(f"{kind} w{workers}", "first batch at 80 % / at 0", ratio, 1.2, False, note))
        windows = [medians(kind, f"block/{w}", 2, "ours", "worker_private_mb") for w in (1, 16, SHARDS)]
        sizes = [size for size in windows if size]
        if sizes:
            note = "private MB of a worker, windows of 1, 16, all shards: " + ", ".join(f"{s:.1f}" for s in sizes)
            found.append(
                Line(f"{kind} w2", "worker memory, widest / narrowest shuffle", sizes[-1] / sizes[0], 1.05, False, note)
            )
    return found


def _rates(medians: Medians, peers: list[str], kind: str, workers: int) -> list[Line]:
    """Each loader, ours too, with the faster of its forms."""
    case, found = f"{kind} w{workers}", []
    best = medians.best(kind, OURS_UNDECODED, workers, ["ours"])
    if not best:
        return []
    ours = best[0].split()[1]
    fastest = medians.best(kind, UNDECODED, workers, peers)
    if fastest:
        peer, form = fastest[0].split()
        cases = ((ours, workers, "ours"), (form, workers, peer))
        cpu = [medians(kind, *which, "cpu_us_per_sample") or 0.0 for which in cases]
        note = f"{ours}, {fastest[0]}; CPU a sample {cpu[0]:.1f} and {cpu[1]:.1f} us"
        ratio = medians.ratio((kind, *cases[0]), (kind, *cases[1]))
        found.append(Line(case, "undecoded / fastest peer", ratio, 1.5, True, note))
    classic = medians.best(kind, UNDECODED, workers, [p for p in peers if p == "webdataset"])
    if classic:
        bound = medians(kind, "indexed", 0, "bounds")
        note = f"{ours}; indexed reads in one process: {bound / classic[1]:.1f} x webdataset" if bound else ours
        ratio = medians.ratio((kind, ours, workers, "ours"), (kind, classic[0].split()[1], workers, "webdataset"))
        found.append(Line(case, "undecoded / webdataset", ratio, 10.0, True, note))
    return found


def _decoded(medians: Medians, peers: list[str], kind: str, workers: int) -> list[Line]:
    case, found = f"{kind} w{workers}", []
    fastest = medians.best(kind, ["decoded"], workers, peers)
    for form, name in (("decoded", "same decoder"), ("own", "our decoder")):
        rate = medians(kind, form, workers, "ours")
        # Our audio is checked for silence and normalised as well, which no peer does: no comparison.
        if rate and fastest and (kind, form) != ("audio", "own"):
            spread = medians.spread(kind, form, workers, "ours")
            peer = fastest[0].split()[0]
            ratio = medians.ratio((kind, form, workers, "ours"), (kind, "decoded", workers, peer))
            note = f"{peer}; rounds differ by {spread:.0%}"
            found.append(Line(case, f"decoded, {name} / fastest peer", ratio, 1.0, True, note))
        cpu = medians(kind, form, workers, "ours", "cpu_us_per_sample")
        bare = medians(kind, form, workers, "bounds", "cpu_us_per_sample")
        ratio = medians(kind, form, workers, "ours", "beside_bare")
        if cpu and bare:
            calm = medians.count(kind, form, workers, "ours", "beside_bare")
            note = f"{cpu:.0f} and {bare:.0f} us; {calm} calm pairs"
            ratio = nan if ratio is None else ratio  # not measured is not held
            found.append(Line(case, f"CPU a sample, {name} / bare decoding", ratio, 1.15, False, note))
    return found


def table(medians: Medians, loaders: list[str]) -> list[str]:
    """Markdown: samples/s (CPU us a sample) of each loader, by kind, form and workers."""
    rows = [f"| kind | form | workers | {' | '.join(loaders)} |", f"|---|---|---|{'---|' * len(loaders)}"]
    for kind in medians.kinds():
        for form in ("block", "views", "lists", "decoded", "own"):
            for workers in medians.workers(kind):
                cells = []
                for loader in loaders:
                    rate = medians(kind, form, workers, loader)
                    cpu = medians(kind, form, workers, loader, "cpu_us_per_sample")
                    cells.append(f"{rate:,.0f} ({cpu:,.1f})" if rate and cpu else "")
                if any(cells):
                    rows.append(f"| {kind} | {form} | {workers} | {' | '.join(cells)} |")
    return rows


def bounds_table(medians: Medians) -> list[str]:
    """Markdown: the raw bounds."""
    rows = ["| kind | bound | samples/s | GB/s |", "|---|---|---|---|"]
    for kind in medians.kinds():
        for form in ("sequential", "indexed", "copies"):
            rate = medians(kind, form, 0, "bounds")
            if rate:
                rows.append(f"| {kind} | {form} | {rate:,.0f} | {medians(kind, form, 0, 'bounds', 'gb_per_s'):.2f} |")
    return rows


def starts_table(medians: Medians, rows: list[Row], loaders: list[str]) -> list[str]:
    """Markdown: seconds to the first batch at the beginning and at 80 %, exactness, mixing."""
    out = [
        "| kind | loader | workers | first batch ms | at 80 % ms | the right one | shards a batch |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in medians.kinds():
        for loader in loaders:
            own = [row for row in rows if (row["kind"], row["loader"]) == (kind, loader) and "error" not in row]
            mixed = [row["shards_per_batch"] for row in own if row["what"] == "mixing"]
            for workers in medians.workers(kind):
                found = [row for row in own if row["what"] == "resume" and row["workers"] == workers]
                if not found:
                    continue
                form = found[0]["form"]
                begin, back = (medians(kind, form, workers, loader, name) or 0.0 for name in ("begin_s", "resume_s"))
                exact = "yes" if all(row["exact"] for row in found) else "no"
                quality = f"{mixed[0]:.1f}" if mixed else ""
                cells = (kind, loader, workers, f"{begin * 1e3:.1f}", f"{back * 1e3:.1f}", exact, quality)
                out.append(f"| {' | '.join(map(str, cells))} |")
    return out
