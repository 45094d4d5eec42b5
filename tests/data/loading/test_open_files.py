"""More shards than files that may be open: none of their samples is taken for a bad one."""

import subprocess
import sys
from pathlib import Path

from tests.data.shards.tars import USTAR, write

ROOT = Path(__file__).parents[3]
RUN = """
import os, resource, sys
from data.errors import RunError
from data.loading.loader import StepLoader, TaskData
from data.loading.raw import RawPrepare
from data.stream import Stream

class OneByOne(RawPrepare):
    block_fields = None

folder, limit = sys.argv[1], 100
stream = Stream("x", {name: f"{folder}/{name}-*.tar" for name in "ab"}, 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for prepare in (OneByOne(["txt"]), RawPrepare(["txt"])):
    for batch in (8, 240):
        for step in StepLoader({"x": TaskData(stream, prepare, batch)}, 0, 960 // batch):
            assert step.rejected == [], step.rejected[0]
print(len(os.listdir("/proc/self/fd")))
stream.close()
others = []
while len(others) < 2 * limit:
    try:
        others.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
try:
    list(StepLoader({"x": TaskData(stream, OneByOne(["txt"]), 1)}, 0, 1))
except RunError as error:
    print(error)
"""


def test_sources_share_the_files_that_may_be_open(tmp_path):
    for name in "ab":
        for number in range(120):
            write(tmp_path / f"{name}-{number:03}.tar", [(f"{n}.txt", b"text") for n in range(2)], USTAR)
    ran = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    opened, refusal = ran.stdout.splitlines()
    assert int(opened) > 30  # what fits stays open
    assert refusal.startswith(f"'{tmp_path}/")
    assert refusal.endswith(
        ".tar' cannot be opened: Too many open files; the limit of this process is 100: raise it (ulimit -n)"
    )
