"""``pretrain -m``: one run after the other for each combination of the swept values, each in a directory of its own."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from data.errors import InputError
from pretrain import config
from pretrain.signals import EXIT_INTERRUPTED, EXIT_STOPPED, SIGNALS, STOPPING


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The override lists of a sweep, in Hydra's sweep grammar (``a=1,2``, ``a=choice(1,2)``, ``a=range(1,4)``).

    Raises:
        InputError: an override is malformed.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise InputError(config.malformed_override(error.override)) from None
    axes = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    return [list(combination) for combination in itertools.product(*axes)]


def multirun(overrides: Sequence[str], config_dir: str | None) -> int:
    """Runs every combination; one that fails does not keep the others from running. Returns the worst exit code.

    Raises:
        InputError: a combination does not compose; noticed before the first run starts.
    """
    runs = []
    for chosen in combinations(overrides):
        swept = [o for o in chosen if o not in overrides and not o.startswith("run_dir=")]
        base = config.load(chosen, config_dir)["run_dir"]
        name = ",".join(o.replace("/", "_") for o in swept)
        runs.append((chosen, f"{base}/{name}" if name else base))
    worst = 0
    for number, (chosen, run_dir) in enumerate(runs, start=1):
        SIGNALS.check()
        quoted = run_dir.replace("\\", "\\\\").replace("'", "\\'")
        print(f"[{number}/{len(runs)}] {run_dir}", file=sys.stderr, flush=True)
        command = [
            sys.executable,
            "-P",
            "-m",
            "pretrain",
            *[o for o in chosen if not o.startswith("run_dir=")],
            f"run_dir='{quoted}'",
        ]
        command += ["--config-dir", config_dir] if config_dir else []
        code = _run(command)
        if code in (EXIT_STOPPED, EXIT_INTERRUPTED):
            return code  # a signal stops the sweep, not one of its runs alone
        worst = max(worst, code if code >= 0 else 1)
    return worst


def _run(command: list[str]) -> int:
    """Runs one of the sweep's runs; a signal is passed on, and the run is given the time to save."""
    with subprocess.Popen(command) as run:
        former: dict[int, Any] = {
            n: signal.signal(n, lambda number, frame: run.send_signal(number)) for n in STOPPING if n != signal.SIGINT
        }
        former[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the run as well
        try:
            return run.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
