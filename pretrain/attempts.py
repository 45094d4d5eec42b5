"""A run that dies again and again in the same step: the deaths are counted, and the third is the last.

What a process is at is written to a file without a flush: that costs microseconds, and outlives the process, not the
host. A host's death says nothing about the step.

A process that was killed may be killed by its step (out of memory) or from outside, and what comes from outside most
often hits what takes longest: the first step after a start, in which workers are forked and code is compiled, and what
comes behind a step, measuring and saving. So such a death, if it left no word, counts half.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from data.errors import InputError
from pretrain.redaction import redact
from pretrain.signals import is_stop

log = logging.getLogger("pretrain")

PROGRESS, DEATHS = "progress", "deaths.json"
ALLOW = "attempts"
"""What ``allow_changes`` must hold for a run to be tried again."""
_KILLED = "killed"
_LENGTH = 20


class Attempts:
    """Which step this process works on, and in which ones earlier ones ended. A context around the whole run.

    Args:
        folder: the run directory; on rank 0 alone, the others keep no count.
        most: deaths in one step, or behind one, with none in a later one between them, after which the run is not
            tried again; twice as many that left no word in the first step after a start, or behind a step. None: it
            always is.
    """

    def __init__(self, folder: Path | None, most: int | None) -> None:
        self.folder, self.most = folder, most
        self._file = -1
        self._warned = False
        self._step, self._behind = 0, False

    def begin(self, allowed: list[str], samples: Callable[[int], str]) -> None:
        """Looks at how earlier attempts ended, before the first step of this one.

        Args:
            allowed: the config's ``allow_changes``.
            samples: step, counted from 1 -> its samples in words.

        Raises:
            InputError: too many of them ended in the same step.
        """
        if self.folder is None:
            return
        deaths, (step, by_chance, behind, cause) = self._deaths(), self._progress()
        if step:
            weight = 0.5 if by_chance and not cause else 1.0
            last = {"step": step, "behind": behind, "cause": cause or _KILLED, "weight": weight}
            deaths = [*(d for d in deaths if (d["step"], d["behind"]) == (step, behind)), last]
        if ALLOW in allowed:
            deaths = []
        # First forgotten, then counted: killed in between, a death is lost, but none is counted twice.
        self._file = os.open(self.folder / PROGRESS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._write(deaths)
        if self.most is not None and sum(death["weight"] for death in deaths) >= self.most:
            step, causes = deaths[-1]["step"], "; ".join(dict.fromkeys(death["cause"] for death in deaths))
            where, blamed = f"in step {step}", f"the samples of that step: {samples(step)}"
            if deaths[-1]["behind"]:
                where, blamed = (
                    f"behind step {step}",
                    "it was measuring or saving, so no sample is blamed",
                )
            raise InputError(
                f"the run has died {len(deaths)} times {where} ({causes}) and come no further; {blamed}; mend the "
                f"cause, then allow_changes=[{','.join([*allowed, ALLOW])}]"
            )

    def last_sign(self) -> float | None:
        """When the process before this one was last at work, in seconds since 1970; None if there was none."""
        try:
            return (self.folder / PROGRESS).stat().st_mtime if self.folder is not None and self._file < 0 else None
        except OSError:
            return None

    def note(self, step: int, behind: bool = False) -> None:
        """Step ``step``, counted from 1, begins; or is ``behind`` this process, and what follows it begins."""
        by_chance = behind or self._step == 0
        self._step, self._behind = step, behind
        self._put(_line(step, by_chance, behind))

    def __enter__(self) -> Attempts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file < 0:
            return
        died = error is not None and not is_stop(error) and self._step > 0
        cause = f"{type(error).__name__}: {redact(' '.join(str(error).split()))[:300]}" if died else ""
        text = _line(self._step if died else 0, False, self._behind) + cause
        self._put(text)
        file, self._file = self._file, -1
        with suppress(OSError):  # of a file system that took none of it; what ended the run is to be heard of
            os.close(file)

    def _put(self, text: str) -> None:
        """A count that a disk in trouble loses stops nobody: at worst a death is counted in the step before its own."""
        if self._file < 0:
            return
        try:
            os.pwrite(self._file, text.encode("utf-8", "backslashreplace"), 0)  # it may name a sample
        except OSError as error:
            if not self._warned:
                log.warning("'%s' cannot be written: %s; deaths in a step may not be counted", PROGRESS, error)
            self._warned = True

    def _progress(self) -> tuple[int, bool, bool, str]:
        """Where the last attempt ended.

        Returns:
            Its step, 0 for none; whether what hits a run by chance most often hits it there; whether the step was
            behind it; what ended it, "" if it did not say.
        """
        assert self.folder is not None
        try:
            numbers, _, cause = (self.folder / PROGRESS).read_text("utf-8", "replace").partition("\n")
            step, by_chance, behind = map(int, numbers.split())
            return step, bool(by_chance), bool(behind), cause
        except (OSError, ValueError):
            return 0, False, False, ""

    def _deaths(self) -> list[dict[str, Any]]:
        assert self.folder is not None
        try:
            found = json.loads((self.folder / DEATHS).read_text())
            names = {"step": int, "behind": bool, "cause": str, "weight": float}
            return [{name: kind(one[name]) for name, kind in names.items()} for one in found]
        except (OSError, ValueError, TypeError, KeyError):
            return []  # nobody is kept from going on by a count that cannot be read

    def _write(self, deaths: list[dict[str, Any]]) -> None:
        assert self.folder is not None
        path = self.folder / DEATHS
        if not deaths:
            path.unlink(missing_ok=True)
            return
        partial = path.with_name(f".{DEATHS}.part")
        with open(partial, "w") as file:
            json.dump(deaths, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)


def _line(step: int, by_chance: bool, behind: bool) -> str:
    """What stands in the file of progress, always as long."""
    return f"{step:0{_LENGTH}d} {int(by_chance)} {int(behind)}\n"
