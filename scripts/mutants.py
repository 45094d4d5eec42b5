"""Seeded faults: deliberate mistakes in our own code, each of which the fast tests must notice.

python scripts/mutants.py                        # all of scripts/mutants.toml; exit code 1 if one survives
python scripts/mutants.py --only fsync redaction # those with one of these words in their name or file
python scripts/mutants.py --jobs 2 --list

Each fault is made in a copy of the working tree, never in place, and only the tests that it names are run there. The
same tests must pass in a copy without a fault, or their failing would say nothing.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts/mutants.toml"
COPIED = ("conf", "data", "modalities", "pretrain", "scripts", "tests", "docs", "README.md", "pyproject.toml")
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "NOT RUN"
_SECONDS = 900.0  # for all tests of one fault
_TEST_SECONDS = 150  # for one test: a fault that hangs is noticed as well
_running: set[int] = set()


@dataclass(frozen=True)
class Mutant:
    """A deliberate fault.

    Attributes:
        name: unique.
        file: that it is made in, relative to the tree.
        old: exact text that stands there once.
        new: what stands there instead.
        tests: paths or ids; at least one of them must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: the fault cannot be made: its text is not there exactly once, or what comes of it is no program.
        """
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text stands {text.count(self.old)} times in {self.file}, not once")
        changed = text.replace(self.old, self.new)
        try:
            if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
                raise ValueError(f"{self.name}: changes nothing in {self.file}")
        except SyntaxError as error:
            raise ValueError(f"{self.name}: {self.file} is no program with it ({error})") from None
        return changed


@dataclass(frozen=True)
class Verdict:
    """What came of a fault: :data:`KILLED`, :data:`SURVIVED` or :data:`BROKEN`; by which test, or what went wrong."""

    mutant: Mutant
    what: str
    by: str
    seconds: float


def load(path: Path = LIST) -> list[Mutant]:
    """The faults of a list.

    Raises:
        ValueError: a name is given twice, or a fault names no test.
    """
    rows = tomllib.loads(path.read_text())["mutant"]
    found = [Mutant(r["name"], r["file"], r["old"], r["new"], tuple(r["tests"])) for r in rows]
    for number, one in enumerate(found):
        if one.name in {other.name for other in found[:number]} or not one.tests:
            raise ValueError(f"{path}: '{one.name}' is there twice, or names no test")
    return found


def copied(root: Path, to: Path) -> Path:
    """A copy of the working tree without what was compiled or built of it."""
    to.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / name).exists():
            shutil.copy2(root / name, to / name)
    return to


def run_tests(tree: Path, tests: Iterable[str], stop: bool = True) -> tuple[int, str]:
    """Exit code of pytest for ``tests`` in ``tree``, -1 if they never ended, and what it said."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", f"timeout={_TEST_SECONDS}", "--tb=line"]
    command += [f"--basetemp={tree}.tmp", *(["-x"] if stop else []), *tests]
    # Child processes of the tests must import the copy too, whatever is installed.
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    # Into a file: of a pipe, runs that a failed test has left behind would keep the other end open.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _running.add(process.pid)
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            end_session(process.pid)
            process.wait()
            _running.discard(process.pid)
        said.seek(0)
        return code, said.read()


def end_session(leader: int) -> None:
    """Kills what is left of the session that ``leader`` began: runs have process groups of their own."""
    for entry in Path("/proc").iterdir():
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3]) if entry.name.isdigit() else None
            if session == leader:
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended by itself meanwhile


def judge(mutant: Mutant, root: Path, scratch: Path) -> Verdict:
    """Makes the fault in a copy and looks whether the tests notice."""
    began, tree = time.monotonic(), scratch / mutant.name
    try:
        text = mutant.applied(root)
        (copied(root, tree) / mutant.file).write_text(text)
        code, output = run_tests(tree, mutant.tests)
    except (OSError, ValueError) as error:
        return Verdict(mutant, BROKEN, str(error), time.monotonic() - began)
    finally:
        for path in (tree, Path(f"{tree}.tmp")):
            shutil.rmtree(path, ignore_errors=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    if code == 1 and failed:
        late = re.search(rf"Timeout \(>{_TEST_SECONDS:.1f}s\)", output)
        what, by = KILLED, failed[0] + (" (did not end)" if late else "")
    elif code == -1:
        what, by = KILLED, f"the tests did not end in {_SECONDS:.0f} s"
    elif code == 0:
        what, by = SURVIVED, ", ".join(mutant.tests)
    else:  # nothing was collected, or a module could not even be imported: no test has noticed anything
        what, by = BROKEN, f"pytest ended with {code}: {' '.join(output.split())[-300:]}"
    return Verdict(mutant, what, by, time.monotonic() - began)


def sound(mutants: Sequence[Mutant], root: Path, scratch: Path) -> str:
    """What the tests say where there is no fault; "" if all pass."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, output = run_tests(copied(root, scratch / "sound"), tests, stop=False)
    return "" if code == 0 else output[-3000:] or f"pytest ended with {code}"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Prints a table; 0 if every fault is noticed, 1 if one survives, 2 if the tests cannot tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="in the name or the file")
    parser.add_argument("--jobs", type=int, default=1, help="faults that are tried at the same time")
    parser.add_argument("--list", action="store_true", help="names them only")
    parser.add_argument("--faults", type=Path, default=root / LIST.relative_to(ROOT), help="another list of faults")
    given = parser.parse_args(arguments)
    every = load(given.faults)
    chosen = [m for m in every if not given.only or any(word in m.name or word in m.file for word in given.only)]
    if given.list or not chosen:
        print("\n".join(f"{m.name:40} {m.file}" for m in chosen) or f"none of {len(every)} faults is called like that")
        return 0 if chosen else 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(max(1, given.jobs)) as pool:
        try:
            tree = copied(root, Path(folder) / "tree")  # once: who goes on working on it meanwhile disturbs nothing
            healthy = pool.submit(sound, chosen, tree, Path(folder))
            verdicts = []
            for verdict in pool.map(partial(judge, root=tree, scratch=Path(folder)), chosen):
                verdicts.append(verdict)
                print(f"{verdict.what:9} {verdict.mutant.name:40} {verdict.seconds:4.0f} s  {verdict.by}", flush=True)
            trouble = healthy.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for pid in list(_running):
                end_session(pid)
            return 130
    counts = ", ".join(f"{sum(v.what == what for v in verdicts)} {what}" for what in (KILLED, SURVIVED, BROKEN))
    print(f"{len(verdicts)} faults: {counts}; {time.monotonic() - began:.0f} s")
    if trouble:
        print(f"the tests do not pass without a fault either, so that they show nothing:\n{trouble}")
    broken = bool(trouble) or any(v.what == BROKEN for v in verdicts)
    return 1 if any(v.what == SURVIVED for v in verdicts) else 2 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
