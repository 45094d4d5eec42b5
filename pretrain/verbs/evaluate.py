"""``pretrain evaluate``: held-out values of any checkpoint, or of each as it is published."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.errors import InputError
from pretrain.redaction import RedactingFormatter
from pretrain.verbs import options

DESCRIPTION = (
    "Measures a checkpoint by the held-out data and evaluators of its run, and by those added here "
    "(+evaluator@evaluators.NAME=KIND ...). The values go to RUN/evaluations/step-N.json, and into the report. With "
    "watch=true it stays beside a training and takes each checkpoint once; several watchers share the work."
)
_WATCH = {"watch=true": True, "watch=false": False}


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain evaluate", description=DESCRIPTION)
    add = top.add_argument
    add("run", metavar="RUN", help="run directory (its newest sound checkpoint), or one step-XXXXXXXX folder")
    add("overrides", metavar="KEY=VALUE", nargs="*", help="changes of the run's config; watch=true")
    add("--ema", action="store_true", help="the moving average of the weights (default: as evaluate.ema says)")
    add(
        "--untrained",
        action="store_true",
        help="the same model as it began, to compare with: evaluations/untrained.json",
    )
    add("--out", metavar="FILE", type=Path, help="write the values there instead")
    options.add_json(top)
    options.add_device(top)
    add("--threads", metavar="N", type=int, help="on the CPU (default: all cores; with watch=true one)")
    options.add_config_dir(top)
    add("--every", metavar="S", type=float, default=2.0, help="watch: look for new ones so often (default: 2)")
    add(
        "--patience",
        metavar="S",
        type=float,
        default=60.0,
        help="watch: end when nobody has trained so long (default: 60)",
    )
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: RUN has no sound checkpoint, or a part of the config or its data is not there.
    """
    arguments = parser().parse_args(argv)
    watch = any(_WATCH.get(one, False) for one in arguments.overrides)
    given = [one for one in arguments.overrides if one not in _WATCH]
    for one in given:
        if "=" not in one and not one.startswith("~"):
            raise InputError(f"'{one}' is not KEY=VALUE")
    if arguments.threads is not None and arguments.threads < 1:
        raise InputError(f"--threads {arguments.threads} is not 1 or more")
    if arguments.every <= 0 or arguments.patience < 0:
        raise InputError(f"--every {arguments.every:g} must be above 0, --patience {arguments.patience:g} 0 or more")
    if watch and (arguments.out or arguments.untrained):
        option = "--out" if arguments.out else "--untrained"
        raise InputError(f"watch=true writes a file for each checkpoint into the run; leave {option} out")
    if arguments.untrained and arguments.ema:
        raise InputError("--untrained weights have no average; leave --ema out")
    from pretrain import host

    host.tune()
    import torch

    torch.set_num_threads(arguments.threads or (1 if watch else host.cores()))
    with _said():
        return _watch(arguments, given) if watch else _once(arguments, given)


@contextmanager
def _said() -> Iterator[None]:
    """What the framework says goes to the terminal, such as why an evaluator is left out."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(message)s"))
    log, level = logging.getLogger("pretrain"), logging.getLogger("pretrain").level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def _once(arguments: argparse.Namespace, given: list[str]) -> int:
    from pretrain import checkpoint
    from pretrain.closing import table
    from pretrain.evaluation import results, shown
    from pretrain.evaluation.subject import digest_of
    from pretrain.report import listing

    reader = checkpoint.find_reader(arguments.run)
    run = _run_of(reader.path.parent.parent)
    if run is None and arguments.out is None:
        raise InputError(f"checkpoint '{reader.path}' lies in no run directory; give --out FILE for the values")
    with _subject(arguments, given, run, reader) as subject:
        if arguments.untrained:
            subject.begin()
        else:
            subject.take(reader)
        scores, tables = subject.measure(), subject.tables
    step = 0 if arguments.untrained else reader.step
    of = "" if arguments.untrained else digest_of(reader.path)
    own = arguments.out.expanduser() if arguments.out else None
    file = own or (results.baseline_of(run.path) if arguments.untrained else results.path_of(run.path, step))
    failed: OSError | None = None
    try:
        results.write(file, step, of, subject.averaged, scores, tables, subject.names)
        if run is not None and not arguments.untrained and arguments.out is None:
            shown.write_all(run.path, step, subject.evaluators)
    except OSError as error:
        failed = error  # what took long to measure is shown all the same
    found = {"step": step, "metrics": scores} | ({"tables": tables} if tables else {})
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        # Under other settings the same name may mean something else than it did when the run began.
        began = results.read(results.baseline_of(run.path)) if run and not given and not arguments.untrained else None
        lines = table(scores, began["metrics"] if began else None)
        print(lines, *map(listing.lines, listing.all_of(found)), sep="\n\n")
    if failed is not None:
        raise InputError(f"'{file}' cannot be written: {failed.strerror or failed}; --out FILE puts values elsewhere")
    if not arguments.json:
        print(f"step {step:,}; written to {file}")
    return 0


def _watch(arguments: argparse.Namespace, given: list[str]) -> int:
    import sys

    from pretrain.evaluation.watch import Watcher

    root = Path(arguments.run).expanduser()
    run, reader = _first(root, arguments.every, arguments.patience)
    with _subject(arguments, given, run, reader) as subject:
        max_steps = int((run.frozen_config() or {}).get("max_steps", 0))

        def said(step: int, count: int) -> None:
            print(f"step {step:,}: {count} metrics", file=sys.stderr, flush=True)

        taken = Watcher(run, subject, max_steps, arguments.every, arguments.patience, said).run()
    print(json.dumps({"evaluated": taken}) if arguments.json else f"{taken} checkpoints evaluated by this process")
    return 0


def _first(root: Path, every_s: float, patience_s: float) -> tuple[Any, Any]:
    """(run, a reader of its newest checkpoint) as soon as there is one.

    Raises:
        InputError: there is none, and nobody trains.
    """
    import time

    from pretrain import checkpoint
    from pretrain.runs.holder import holder

    alive = time.monotonic()
    while True:
        run = _run_of(root)
        if run is not None and checkpoint.published(run.checkpoints):
            return run, checkpoint.find_reader(root)
        if holder(root).active is not False:
            alive = time.monotonic()
        if time.monotonic() - alive > patience_s:
            raise InputError(f"'{root}' has no checkpoint, and nobody trains there")
        time.sleep(every_s)


def _subject(arguments: argparse.Namespace, given: list[str], run: Any, reader: Any) -> Any:
    """A context with what evaluates; its store is closed behind it."""
    from pretrain.devices import device_of
    from pretrain.evaluation.subject import Subject, compose
    from pretrain.storage import open_store

    @contextmanager
    def opened() -> Any:
        composed = compose(run, reader.state, given, arguments.config_dir)
        store = open_store(composed)
        try:
            averaged = arguments.ema or (composed["evaluate"]["ema"] and not arguments.untrained)
            yield Subject(composed, store, device_of(arguments.device), averaged)
        finally:
            store.close()

    return opened()


def _run_of(path: Path) -> Any:
    from pretrain.run import CONFIG, RunDirectory

    return RunDirectory(str(path), rank=-1) if (path / CONFIG).is_file() else None
