"""A training outlives whoever reads its output, and descriptors that were never open."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TALK = """
import sys
from pretrain.terminal import open_standard_streams
open_standard_streams()
for number in range(100):
    print("step", number, "x" * 1000, file=sys.stderr, flush=True)
sys.stdout.flush()
print(open("own").fileno(), file=open("own", "a"))
"""


def talk(folder, stderr=None, before=None):
    (folder / "own").touch()
    path = os.pathsep.join(one for one in sys.path if one)
    code = subprocess.run(
        [sys.executable, "-c", _TALK],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stderr=stderr,
        preexec_fn=before,
        check=False,
    ).returncode
    return code, (folder / "own").read_text()


def test_a_reader_that_leaves_and_a_full_disk_end_nothing(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full:
        for stderr in (writing, full):
            code, _ = talk(tmp_path, stderr)
            assert code == 0
    os.close(writing)


@pytest.mark.parametrize("closed", [(0, 1, 2), (1,), (2,)])
def test_closed_descriptors_are_not_given_to_files_of_the_run(tmp_path, closed):
    def close():
        for number in closed:
            os.close(number)

    code, own = talk(tmp_path, before=close)
    assert code == 0
    assert int(own) > 2
