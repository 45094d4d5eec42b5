"""Processes that say the same, and one that says more."""

from __future__ import annotations

import os
import subprocess
import sys

from pretrain.said import together

SAY = "import sys; from pretrain.said import say; say(sys.argv[1:])"


def talk(environment, *lines):
    path = os.pathsep.join(one for one in sys.path if one)
    return subprocess.Popen(
        [sys.executable, "-c", SAY, *lines],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_alike_is_said_once_and_what_differs_by_whom_it_concerns():
    with together() as family:
        given = family.environment
        several = [talk(given, "a fault", "a second"), talk(given, "a fault", "a second"), talk(given, "mine")]
        said = "".join(one.communicate(timeout=60)[1] for one in several)
    assert sorted(said.splitlines()) == ["a fault", "a second", "mine"]
    alone = [talk({}, "a fault"), talk(given, "a fault")]  # and where what they shared is gone
    assert [one.communicate(timeout=60)[1] for one in alone] == ["a fault\n"] * 2
