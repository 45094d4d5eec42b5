"""``pretrain runs show``: all that one run directory tells."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from rich.markup import escape

from data.words import duration
from pretrain.closing import table
from pretrain.run import EVENTS, QUARANTINE, RunDirectory
from pretrain.runs.files import Row, all_rows, count_lines
from pretrain.runs.following import described
from pretrain.runs.summary import starts, summarise, when
from pretrain.runs.words import ago, number, share
from pretrain.verbs.tables import console

_STARTS = 10
_EVENTS = 10


def show(folder: Path, as_json: bool) -> None:
    """Prints it.

    Args:
        folder: the run directory.
        as_json: as one JSON object.
    """
    run, rows, results = summarise(folder), starts(folder), RunDirectory(str(folder), rank=-1).results()
    events = all_rows(folder / EVENTS)
    bad = sum(count_lines(path) for path in sorted(folder.glob(f"{Path(QUARANTINE).stem}*.jsonl")))
    if as_json:
        found: dict[str, Any] = {"run": run.as_json(), "starts": rows, "results": results}
        print(json.dumps(found | {"events": events, "quarantined": bad}))
        return
    out = console()
    out.print(escape(f"{run.path}: {run.state}{': ' + run.cause if run.cause else ''}"), soft_wrap=True)
    out.print(
        f"step {run.step:,} of {run.max_steps:,}, loss {number(run.loss) or 'not known'}, saved: {run.checkpoint}"
    )
    if run.samples_per_s:
        left = f", {duration(run.seconds_left)} left" if run.seconds_left is not None else ""
        out.print(f"{number(run.samples_per_s)} samples/s{left}")
    if run.goodput is not None:
        out.print(f"goodput {share(run.goodput)} of {duration(run.at_work_s)} at work")
    out.print(escape(f"last sign of life {ago(run.seen)}, process {run.pid} on {run.host or 'nowhere'}"))
    if len(rows) > _STARTS:
        out.print(f"{len(rows)} starts, the last {_STARTS} of them:")
    for row in rows[-_STARTS:]:
        out.print(escape(_start(row)), soft_wrap=True)
    for kind, count in Counter(str(event.get("event", "event")) for event in events).items():
        out.print(escape(f"{count} x {kind}"))
    for event in events[-_EVENTS:]:
        out.print(escape(f"  step {event.get('step')}: {described(event)}"), soft_wrap=True)
    if bad:
        out.print(f"{bad:,} samples in quarantine")
    if results is not None:
        out.print(f"measured at step {results['step']:,}:")
        out.print(escape(table(results["metrics"])))


def _start(row: Row) -> str:
    job = f", Slurm job {row['job']}" if row.get("job") else ""
    where = f"{row.get('world_size', 1)} x {row['device']} on {row['host']}{job}"
    code = f", code {row['code'][:12]}{'+' if row['code'].endswith('+') else ''}" if row.get("code") else ""
    file = ["--config", row["file"]] if row.get("file") else []
    command = shlex.join(["pretrain", *file, *row["overrides"]])
    return f"started {ago(when(row))} at step {row['step']:,}, {where}{code}: {command}"
