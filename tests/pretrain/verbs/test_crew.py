import os
import signal
import subprocess
import sys
import time

import pytest

from data.errors import InputError, RunError
from pretrain.verbs.crew import work


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_units(workers):
    kept = []

    def square(unit):  # not picklable, and keeps things: it is inherited
        kept.append(unit)
        time.sleep(0.02 * (unit % 3 == 0))
        return unit * unit, len(kept)

    found = list(work(square, iter(range(30)), workers, "squaring", 30))
    assert [unit for unit, _ in found] == list(range(30))
    assert [square for _, (square, _) in found] == [n * n for n in range(30)]
    assert sum(count == 1 for _, (_, count) in found) in (1, 2, 3)


def test_units_are_not_looked_at_far_ahead():
    asked = []

    def units():
        for number in range(100):
            asked.append(number)
            yield number

    results = work(abs, units(), 2, "", 100)
    next(results)
    assert len(asked) <= 10
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_ends_it(workers):
    def refuse(unit):
        raise InputError(f"unit {unit} is wrong")

    with pytest.raises(InputError, match="unit 0 is wrong"):
        list(work(refuse, range(5), workers, "", 5))


def test_a_worker_that_dies_is_one_line():
    def die(unit):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunError, match="a worker process died"):
        list(work(die, range(5), 2, "", 5))


def test_workers_end_with_a_parent_that_is_killed():
    program = """
import os, time
from pretrain.verbs.crew import work
def tell(unit):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: two of them write
    time.sleep(0.2)
for _ in work(tell, range(10000), 2, "", 10000): pass
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    children = {int(parent.stdout.readline()) for _ in range(6)}
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(map(alive, children)):
        time.sleep(0.1)
    assert not any(map(alive, children))


def test_workers_compute_where_the_parent_has_computed_with_several_threads():
    program = """
import torch
from pretrain.verbs.crew import work
torch.set_num_threads(2)
def total(unit):
    return float(torch.ones(10**6).mul(2).sum())
total(0)
print([result for _, result in work(total, range(2), 2, "", 2)])
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=100)
    assert done.stdout.strip() == "[2000000.0, 2000000.0]"


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
