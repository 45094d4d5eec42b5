"""The command line. Imports no torch: help and wrong input answer at once.

Exit codes: 0 done, 2 wrong input, 143 (after Ctrl-C 130) stopped by a signal and continuable, 1 anything else.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from data.errors import InputError, RunError
from pretrain import host
from pretrain.redaction import install, redact, redacted
from pretrain.requeue import ask_for_more
from pretrain.said import say
from pretrain.signals import EXIT_ERROR, EXIT_INPUT, EXIT_INTERRUPTED, EXIT_STOPPED, SIGNALS, Stopped, exit_code
from pretrain.terminal import open_standard_streams
from pretrain.usage import ADAPT_USAGE, USAGE


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments or bool(os.environ.get("PRETRAIN_TRACEBACK"))
    arguments = [a for a in arguments if a != "--traceback"]
    install()
    open_standard_streams()
    _print_anything()
    verb = arguments[0] if arguments else ""
    if verb in VERBS:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, _stop_verb)
    else:
        SIGNALS.forget()
        SIGNALS.listen()
    try:
        if verb in VERBS:
            return _verb(verb, arguments[1:])
        return _adapt(arguments[1:]) if verb == ADAPT else _train(arguments)
    except InputError as error:
        if traceback:
            raise
        say([f"pretrain: error: {redact(line)}" for line in str(error).splitlines()])  # each a fault of its own
        return EXIT_INPUT
    except RuntimeError as error:
        # Path.expanduser's, from anywhere: no user of that name, or no HOME.
        if traceback or str(error) != "Could not determine home directory.":
            raise
        named = ", ".join(one for one in arguments if "~" in one) or "a path of the config"
        print(redact(f"pretrain: error: '{named}': there is no such home folder as its '~' says"), file=sys.stderr)
        return EXIT_INPUT
    except RunError as error:
        if traceback:
            raise
        print(f"pretrain: error: {redact(str(error))}", file=sys.stderr)
        code = getattr(error, "code", None)  # of the rank that this one could not go on without
        if code is None:
            return EXIT_ERROR
        sys.stderr.flush()
        os._exit(code)  # what an ordinary end tears down waits for processes that are not there any more
    except Stopped as stopped:
        print(f"pretrain: {stopped}; the same command continues", file=sys.stderr)
        return exit_code(stopped.number)
    except KeyboardInterrupt:
        print("pretrain: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _print_anything() -> None:
    """Names in shards may hold anything: what a terminal or a pipe cannot take is written as Python escapes it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stop_verb(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_STOPPED)


def _train(arguments: list[str]) -> int:
    from pretrain import composition, config, launch

    if "--help" in arguments or "-h" in arguments:
        print(USAGE)
        print("config groups (GROUP=OPTION, or GROUP@PLACE=OPTION as in encoder@encoders.text=text_tiny):")
        for group, options in composition.groups().items():
            print(f"  {group:<12} {', '.join(options)}")
        return 0
    if "--version" in arguments:
        from pretrain.version import __version__

        print(f"pretrain {__version__}")
        return 0
    given = list(arguments)
    config_dir, file = _option(arguments, "--config-dir"), _option(arguments, "--config")
    config_dir = os.path.expanduser(config_dir) if config_dir else config_dir
    show = _option(arguments, "--cfg")
    sweep = [a for a in arguments if a in ("-m", "--multirun")]
    overrides = [a for a in arguments if a not in sweep]
    for override in overrides:
        if override.startswith("-"):
            raise InputError(
                f"unknown option '{override}'; options: --help, --version, --cfg job, -m, --config FILE, "
                "--config-dir DIR, --traceback"
            )
        if "=" not in override and not override.startswith("~"):
            raise InputError(f"'{override}' is neither a verb ({', '.join([*VERBS, ADAPT])}) nor KEY=VALUE")
    if show is not None:
        if show != "job":
            raise InputError(f"--cfg '{show}' is unknown; choices: job")
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(redacted(config.load(overrides, config_dir, file)))), end="")
        return 0
    if sweep:
        from pretrain.multirun import multirun

        return multirun(overrides, config_dir, file)
    composed = config.load(overrides, config_dir, file)
    if composed["sweeper"]["kind"] != "grid":
        raise InputError(f"sweeper={composed['sweeper']['kind']} is for sweeps; choices: pretrain -m ..., sweeper=grid")
    if composed["launcher"]["kind"] == "local" and composed["interruption"]["requeue"] and launch.first():
        SIGNALS.leaving = ask_for_more  # who submits a job does not ask for its own
    SIGNALS.check()
    if _is_finished(composed) or _is_stopped(composed):
        return 0
    if composed["launcher"]["kind"] != "local":
        from pretrain.launchers.starting import start

        return start(composed, overrides, lambda: config.written(overrides, config_dir, file))
    options = composed["trainer"]
    if launch.needed(options["devices"]):
        from pretrain.ranks import check_spread

        processes = options["devices"] * options["num_nodes"]
        check_spread(composed, processes)  # said once, not by each process
        if options["deterministic"] == "exact":
            from pretrain.exact import check_exact

            check_exact(composed, processes)
        SIGNALS.leaving = None  # from here on it is for rank 0
        shape = options["devices"], options["num_nodes"], composed["interruption"]["silence_s"]
        return launch.launch(given, *shape)
    host.tune()
    from pretrain.train import train

    train(composed, overrides, file)
    return 0


def _adapt(arguments: list[str]) -> int:
    """The training that ``pretrain adapt ARGUMENTS`` is."""
    if "--help" in arguments or "-h" in arguments:
        print(ADAPT_USAGE, end="")
        return 0
    host.tune()
    from pretrain.adapting.expand import expand

    return _train(expand(arguments))


def _is_finished(composed: dict[str, Any]) -> bool:
    """Whether there is nothing left to do, which takes no torch to find out."""
    from pretrain import closing, launch
    from pretrain.run import RunDirectory, open_log

    step = closing.finished(composed)
    if step is not None:
        directory = RunDirectory(composed["run_dir"], rank=-1)
        open_log(directory, console=launch.first())
        closing.report(directory, step, composed["max_steps"])
    return step is not None


def _is_stopped(composed: dict[str, Any]) -> bool:
    """Whether a launcher has started this process again although the run was asked to stop."""
    from pretrain import launch, stopmark

    folder = os.path.abspath(os.path.expanduser(composed["run_dir"]))
    found = stopmark.heeded(Path(folder))
    if found and launch.first():
        print(
            f"pretrain: '{folder}' was asked to stop, and stays so; the command, given anew, continues", file=sys.stderr
        )
    return found


def _option(arguments: list[str], name: str) -> str | None:
    """Takes ``name VALUE`` or ``name=VALUE`` out of ``arguments``."""
    for number, argument in enumerate(arguments):
        if argument == name:
            if number + 1 == len(arguments):
                raise InputError(f"{name} needs a value")
            value = arguments[number + 1]
            del arguments[number : number + 2]
            return value
        if argument.startswith(name + "="):
            del arguments[number]
            return argument.removeprefix(name + "=")
    return None


ADAPT = "adapt"
"""No verb of :data:`VERBS`, but a training: signals stop it as they stop one."""

VERBS = {
    "shards": "shards",
    "checkpoints": "checkpoints",
    "plan": "plan",
    "runs": "runs",
    "sweep": "sweep",
    "report": "run_report",
    "export": "export",
    "embed": "embed",
    "search": "search",
    "evaluate": "evaluate",
}
"""Verb -> the module of :mod:`pretrain.verbs` with its ``main(arguments)``."""


def _verb(name: str, arguments: list[str]) -> int:
    code: int = import_module(f"pretrain.verbs.{VERBS[name]}").main(arguments)
    return code
