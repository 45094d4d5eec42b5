"""``pretrain sweep``: how a sweep's trials stand, which are best; starts those that ended too early, or failed."""

from __future__ import annotations

import argparse
import json
import time

from rich.markup import escape

from data.errors import InputError
from pretrain.attempts import DEATHS
from pretrain.ending import FAILED, INTERRUPTED
from pretrain.launchers.frozen import FOLDER, put
from pretrain.lease import leased
from pretrain.runs.summary import RUNNING
from pretrain.runs.words import duration, number
from pretrain.sweeps.best import MODES, ranking, wanted
from pretrain.sweeps.record import LET_GO_ON, PRUNED_FILE, Sweep, Trial, read
from pretrain.sweeps.running import run
from pretrain.sweeps.standing import UNDER_WAY, WAITING, Standing, counted, standings
from pretrain.sweeps.starting import start
from pretrain.verbs import options
from pretrain.verbs.tables import console, table_of


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain sweep", description="What became of `pretrain -m`, and what next.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    text = "a line for each trial"
    status = verbs.add_parser("status", help=text, description=text)
    text = "start what was killed, interrupted or never started: here, or as one more array job of Slurm"
    resume = verbs.add_parser("resume", help=text, description=text)
    text = "start what failed (its cause mended) or the trials named"
    retry = verbs.add_parser("retry", help=text, description=text)
    text = "the trials in the order of a held-out value"
    best = verbs.add_parser("best", help=text, description=text)
    text = "choose one trial's values, if that is not done, and run it by COMMAND: what a batch script calls"
    trial = verbs.add_parser("trial", help=text, description=text)
    for verb in (status, resume, retry, best, trial):
        verb.add_argument("sweep", metavar="SWEEP", help="run_dir of `pretrain -m`")
    retry.add_argument("trials", metavar="N", nargs="*", type=int, help="numbers of trials (default: all that failed)")
    trial.add_argument("number", metavar="N", type=int)
    trial.add_argument("command", metavar="-- COMMAND", nargs="+")
    best.add_argument(
        "--metric",
        metavar="NAME",
        help="default: what the sweep makes best, or checkpoint.keep_best.metric of the runs",
    )
    best.add_argument("--mode", choices=MODES, help="which values are good")
    for verb in (status, best):
        options.add_json(verb)
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: there is no such sweep or trial, or nothing to judge trials by.
        RunError: Slurm does not answer.
    """
    arguments = parser().parse_args(argv)
    sweep = read(arguments.sweep)
    if arguments.verb == "status":
        _status(sweep, arguments.json)
    elif arguments.verb == "best":
        _best(sweep, arguments)
    elif arguments.verb == "trial":
        code, _ = run(sweep, sweep.trials[_known(sweep, arguments.number)], arguments.command)
        return code if code >= 0 else 1
    else:
        lease = leased(sweep.path, arguments.sweep)
        try:
            found = standings(sweep, settled=True)
            resuming = arguments.verb == "resume"
            trials = _early(found) if resuming else _failed(sweep, found, arguments.trials)
            return start(sweep, trials)
        finally:
            lease.let_go()
    return 0


def _early(found: list[Standing]) -> list[Trial]:
    return [one.trial for one in found if one.state in (WAITING, INTERRUPTED)]


def _failed(sweep: Sweep, found: list[Standing], numbers: list[int]) -> list[Trial]:
    chosen = [found[_known(sweep, each)] for each in sorted(set(numbers))]
    for one in chosen:
        if one.state in UNDER_WAY:
            raise InputError(f"trial {one.trial.number} of '{sweep.path}' is {one.state}; stop it, or let it go on")
    chosen = chosen or [one for one in found if one.state == FAILED]
    for one in chosen:
        folder = sweep.folder(one.trial)
        if (folder / FOLDER / PRUNED_FILE).exists():  # no better next time: it would be ended again at once
            put(folder / FOLDER / LET_GO_ON, json.dumps({"time": time.time()}) + "\n")
        for verdict in (folder / FOLDER / PRUNED_FILE, folder / DEATHS):  # which the one who asks knows better
            verdict.unlink(missing_ok=True)
    return [one.trial for one in chosen]


def _known(sweep: Sweep, trial: int) -> int:
    if not 0 <= trial < len(sweep.trials):
        raise InputError(f"'{sweep.path}' has no trial {trial}; choices: 0 to {len(sweep.trials) - 1}")
    return trial


def _status(sweep: Sweep, as_json: bool) -> None:
    found = standings(sweep)
    if as_json:
        print(json.dumps({"sweep": str(sweep.path), "trials": [one.as_json() for one in found]}))
        return
    out = console()
    table = table_of("trial>", "what", "state", "step>", "loss>", "left>", "job")
    for one in found:
        run = one.run
        table.add_row(
            str(one.trial.number),
            escape(_what(one.trial)),
            one.state,
            f"{run.step:,}/{run.max_steps:,}" if run is not None and run.max_steps else "",
            number(run.loss) if run is not None else "",
            duration(run.seconds_left) if run is not None and one.state == RUNNING else "",
            one.job,
        )
    out.print(table)
    for one in found:
        if one.cause:
            out.print(escape(f"{one.trial.number}: {one.cause}"), soft_wrap=True)
    out.print(counted(found))


def _what(trial: Trial) -> str:
    return ",".join(trial.overrides) or trial.folder


def _best(sweep: Sweep, arguments: argparse.Namespace) -> None:
    metric, mode = wanted(sweep, arguments.metric, arguments.mode)
    found = ranking(sweep, standings(sweep, queue=False), metric, mode)
    if arguments.json:
        rows = [
            {"number": one.trial.number, "folder": str(sweep.folder(one.trial)), "value": one.value, "step": one.step}
            | {"overrides": one.trial.overrides, "finished": one.done}
            for one in found
        ]
        print(json.dumps({"metric": metric, "mode": mode, "trials": rows}))
        return
    table = table_of("trial>", "what", f"{escape(metric)}>", "step>", "")
    for one in found:
        early = "" if one.done else "not finished"
        table.add_row(str(one.trial.number), escape(_what(one.trial)), number(one.value), f"{one.step:,}", early)
    console().print(table)
