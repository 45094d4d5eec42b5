"""Every seeded fault can still be made, and the script tells what is noticed from what is not."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts/mutants.py")
mutants = importlib.util.module_from_spec(_spec)
sys.modules["mutants"] = mutants
_spec.loader.exec_module(mutants)

EVERY = mutants.load()


def test_there_are_many_and_each_can_be_made():
    assert len(EVERY) >= 80
    for mutant in EVERY:
        mutant.applied(ROOT)


def test_the_tests_that_must_notice_are_there():
    for mutant in EVERY:
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).exists(), mutant.name
            if name:
                assert f"\ndef {name.partition('[')[0]}(" in (ROOT / file).read_text(), mutant.name


PROGRAM = """
def double(x):
    return 2 * x


def spare(x):
    return x
"""
TESTS = """
from pretrain.program import double, spare


def test_double():
    assert double(3) == 6


def test_spare():
    spare(1)
"""
FAULTS = """
[[mutant]]
name = "half"
file = "pretrain/program.py"
old = "2 * x"
new = "x"
tests = ["tests/test_program.py"]

[[mutant]]
name = "unseen"
file = "pretrain/program.py"
old = "    return x\\n"
new = "    return -x\\n"
tests = ["tests/test_program.py::test_spare"]
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-q --import-mode=importlib'\n")
    (tmp_path / "pretrain/__init__.py").write_text("")
    (tmp_path / "pretrain/program.py").write_text(PROGRAM)
    (tmp_path / "tests/test_program.py").write_text(TESTS)
    return tmp_path


def try_out(tree, faults, capsys, *arguments):
    """Exit code, and fault -> what became of it."""
    (tree / "faults.toml").write_text(faults)
    code = mutants.main(["--faults", str(tree / "faults.toml"), *arguments], tree)
    found = dict(re.findall(r"^(killed|SURVIVED|NOT RUN) +(\S+)", capsys.readouterr().out, re.MULTILINE))
    return code, {name: what for what, name in found.items()}


def test_a_survivor_is_told_and_nothing_is_changed(tree, capsys):
    assert try_out(tree, FAULTS, capsys, "--jobs", "2") == (1, {"half": "killed", "unseen": "SURVIVED"})
    assert try_out(tree, FAULTS, capsys, "--only", "half", "--jobs", "2") == (0, {"half": "killed"})
    assert (tree / "pretrain/program.py").read_text() == PROGRAM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("2 * x", "3 * x"), "stands 0 times"),
        (("2 * x", "def "), "stands 2 times"),
        (('"x"', '"2 * x  # the same"'), "changes nothing"),
        (('"x"', '"2 *"'), "is no program with it"),
    ],
)
def test_a_fault_that_cannot_be_made_is_named(tree, change, message):
    (tree / "faults.toml").write_text(FAULTS.replace(*change))
    with pytest.raises(ValueError, match=f"half: .*{message}"):
        mutants.load(tree / "faults.toml")[0].applied(tree)


def test_what_shows_nothing_is_no_success(tree, capsys):
    """A test that is not there has noticed nothing, nor has one that fails anyway."""
    lost = FAULTS.replace("test_program.py", "test_nothing.py")
    assert try_out(tree, lost, capsys, "--only", "half", "--jobs", "2") == (2, {"half": "NOT RUN"})
    (tree / "tests/test_program.py").write_text(TESTS.replace("== 6", "== 7"))
    assert try_out(tree, FAULTS, capsys, "--only", "half", "--jobs", "2") == (2, {"half": "killed"})
